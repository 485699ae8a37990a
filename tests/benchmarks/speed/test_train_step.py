"""The benchmark of a training step divides, compares and claims what was timed."""

import argparse
import types

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")
pytest.importorskip("torch_geometric", reason="needs PyG, which the bench extra brings")
pytest.importorskip("numba", reason="needs numba, which the bench extra brings")

from benchmarks.speed import ngcf_step, train_step
from benchmarks.workloads.gowalla import Workload
from lightgcn_jax.data import given_split
from lightgcn_jax.data.synthetic import block_world
from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.graph import BipartiteGraph, csr_rows

ROUNDS, STEPS = 3, 4


@pytest.fixture
def alternations(monkeypatch):
    """What was alternated, with nothing run: each contender takes a time of its own, in seconds."""
    split = given_split(block_world(groups=2, users_per_group=8, items_per_group=6))
    num_users, num_items = len(split.users), len(split.items)
    graph = BipartiteGraph.from_pairs(
        split.train.users, split.train.items, num_users=num_users, num_items=num_items
    )
    relevant = csr_rows(split.test.users, split.test.items, num_users)
    workload = Workload(split, graph, diffusion_operator(graph), relevant)
    monkeypatch.setattr(train_step, "load_gowalla", lambda *_: workload)
    seconds = {
        "our step": 0.4,
        "PyTorch's step": 0.5,
        "PyTorch's step, CSR with Ã symmetric": 0.105,
        "applications of Ã": 0.06,
        "our step without layers": 0.04,
        "our NGCF step": 1.2,
        "PyTorch's NGCF step": 1.5,
        "the same, CSR with Ã symmetric": 0.6,
    }
    found = []

    def alternate(contenders, *, rounds):
        found.append((list(contenders), rounds))
        return {name: [seconds[name]] * rounds for name in contenders}

    steps = types.SimpleNamespace(steps=STEPS, compile_seconds=1.0)
    for module in (train_step, ngcf_step):
        monkeypatch.setattr(module, "alternate", alternate)
        monkeypatch.setattr(module, "CompiledSteps", lambda *_: steps)
    return found


def test_a_step_is_held_against_both_peers(alternations):
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir")
    train_step.add_options(parser)
    report = train_step.run(parser.parse_args(["--rounds", str(ROUNDS), "--skip-memory"]))
    assert [rounds for _, rounds in alternations] == [ROUNDS] * 3
    # A sample of ours is a call of several steps.
    assert report.samples["our step"] == pytest.approx([0.1] * ROUNDS)
    claims = {claim.name: claim.value for claim in report.claims}
    assert claims == {
        "speedup_vs_torch_coo": pytest.approx(5.0),
        "speedup_vs_torch_csr_symmetric": pytest.approx(1.05),
        "ngcf_speedup_vs_torch": pytest.approx(5.0),
        "ngcf_speedup_vs_torch_symmetric": pytest.approx(2.0),
        "peak_rss_gb": None,
    }
    assert np.isclose(report.details["diffusion_share"], 0.6)
