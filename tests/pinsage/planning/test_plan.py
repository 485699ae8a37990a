"""Plans of PinSAGE: sizes of batches, memory by formula beside the compiled step."""

import json

import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.cli.program import main
from pinsage_jax.planning import Workload, plan

SMALL = Workload(
    items=20_000, memberships=100_000, width=32, dim=16, neighbors=8, structure=0, batch_size=64,
    negatives=32,
)  # fmt: skip


def test_layers_grow_as_drawn_neighbours_make_them_grow():
    rng = np.random.default_rng(0)
    neighbours = rng.integers(0, SMALL.items, (SMALL.items, SMALL.neighbors))
    found = [np.unique(rng.integers(0, SMALL.items, 2 * 64 + 32))]
    for _ in range(2):
        found.append(np.unique(np.concatenate([found[-1], neighbours[found[-1]].ravel()])))
    sizes = [len(one) for one in found[::-1]]
    assert SMALL.usual(1) == pytest.approx(sizes, rel=0.05)
    assert all(usual <= most for usual, most in zip(SMALL.usual(1), SMALL.most(1), strict=True))


def test_memory_is_about_that_of_the_compiled_step():
    made = plan(SMALL, "here", devices=1)
    assert made.executable is not None, made.note
    assert made.fits
    assert made.executable.host_callbacks == 0
    read = made.memory["features"] + made.memory["neighbours"]
    assert read < made.executable.argument_bytes < made.total
    assert made.total == pytest.approx(made.executable.peak_bytes, rel=0.5)


def test_tables_too_large_for_a_device_are_shared_out():
    paper = Workload(
        items=1_000_000_000, memberships=2_000_000_000, width=4352, dim=1024, structure=0,
        batch_size=2048, hard=6,
    )  # fmt: skip
    alone, several = plan(paper, "h200", compiled=False), plan(paper, "h200:8", compiled=False)
    assert not alone.fits
    assert any("--tables host" in line for line in alone.advice)
    assert several.shared_out
    assert several.memory["features"] == pytest.approx(alone.memory["features"] / 8, rel=1e-6)
    assert sum(several.received.values()) > 0 == sum(alone.received.values())
    assert several.mesh == (1, 8)
    assert plan(SMALL, "h200:8", compiled=False).mesh == (8, 1)
    with pytest.raises(InputError, match="mesh: expected a number of devices that divides"):
        plan(SMALL, "h200:8", mesh="model=3")
    with pytest.raises(InputError, match="items: expected at most 2,147,483,647, got 3000000000"):
        Workload(items=3_000_000_000)


def test_the_command_prints_a_plan(capsys):
    sizes = ["--items", "10000000", "--memberships", "100000000"]
    assert main(["plan", *sizes, "--accelerator", "h200:8"]) == 0
    said = capsys.readouterr().out
    assert "mesh 8 × 1" in said
    assert "XLA compiles for a GPU only beside one" in said
    assert "It fits" in said
    assert main(["plan", *sizes, "--accelerator", "v5e", "--no-compile", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["devices"] == 1
    assert found["step_seconds"]["links"] == 0
