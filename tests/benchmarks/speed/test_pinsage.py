"""The benchmark of PinSAGE times what it says, each as often as asked, on all cores."""

import argparse
import dataclasses

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")
pytest.importorskip("numba", reason="needs numba, which the bench extra brings")

import torch

from benchmarks.harness.report import cores
from benchmarks.speed import pinsage, pinsage_walks
from benchmarks.workloads.pins_100k import Edges
from pinsage_jax.config import PinSageConfig
from pinsage_jax.graph.item_graph import ItemGraph

ROUNDS = 12


@pytest.fixture
def small(monkeypatch):
    """A few items and a narrow encoder."""
    rng = np.random.default_rng(0)
    items, contexts = rng.integers(0, 60, 300, np.int32), rng.integers(0, 40, 300, np.int32)
    graph = ItemGraph.from_pairs(items, contexts, num_items=60, num_contexts=40)
    narrow = dataclasses.replace(PinSageConfig(), dim=8, batch_size=8, negatives=12, structure=4)
    monkeypatch.setattr(pinsage, "graph_100k", lambda: Edges(items, contexts, graph))
    monkeypatch.setattr(pinsage, "_DEFAULTS", narrow)
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


@pytest.fixture
def untimed(monkeypatch):
    """Nothing that is timed runs; the n-th of an alternation takes n seconds."""

    def alternate(contenders, *, rounds):
        return {name: [float(place)] * rounds for place, name in enumerate(contenders, 1)}

    monkeypatch.setattr(pinsage, "alternate", alternate)
    monkeypatch.setattr(pinsage_walks, "alternate", alternate)
    # Capacities matter to what runs alone.
    monkeypatch.setattr(pinsage, "count_nodes", lambda *_, most, **__: np.ones(len(most), int))
    monkeypatch.setattr(pinsage, "_mini_batches", lambda *_: None)


def report_of(*options):
    torch.set_num_threads(1)
    parser = argparse.ArgumentParser()
    pinsage.add_options(parser)
    return pinsage.run(parser.parse_args(list(options)))


@pytest.mark.slow
@pytest.mark.usefixtures("small", "untimed")
def test_everything_is_measured_as_often_as_asked_on_all_cores():
    report = report_of("--rounds", str(ROUNDS), "--skip-hard")
    assert {len(seconds) for seconds in report.samples.values()} == {ROUNDS}
    assert report.settings["rounds"] == ROUNDS
    assert report.threads["torch"] == cores()
    assert report.details["table_compile_seconds"] >= 0
    # What users pay is claimed beside what the peer does.
    claims = {claim.name: claim.value for claim in report.claims}
    chunk = ["our step", "PyTorch's step"]
    chunk += [f"{name}, max-margin" for name in chunk]
    assert [report.samples[name][0] for name in chunk] == pytest.approx([0.2, 0.4, 0.6, 0.8])
    assert claims["step_speedup_vs_torch"] == pytest.approx(2)
    assert claims["plain_step_speedup_vs_torch"] == pytest.approx(4 / 3)
    assert claims["default_step_seconds"] == pytest.approx(0.2)
    assert report.details["default_over_plain_step"]["value"] == pytest.approx(1 / 3)


@pytest.mark.slow
@pytest.mark.usefixtures("small")
def test_all_of_it_runs():
    report = report_of("--rounds", "2", "--skip-hard")
    assert all(len(seconds) == 2 for seconds in report.samples.values())
    assert all(value > 0 for seconds in report.samples.values() for value in seconds)
    # The first call of the table's walks waits for the compiler, and no sample does.
    assert report.details["table_compile_seconds"] > 0


def test_the_default_step_has_the_default_settings():
    assert PinSageConfig() == pinsage._DEFAULTS
    plain = pinsage.plain_config()
    changed = {
        field.name
        for field in dataclasses.fields(plain)
        if getattr(plain, field.name) != getattr(PinSageConfig(), field.name)
    }
    assert changed == {"structure", "loss", "unit_length", "drop_contexts", "mask_targets"}
    # The paper's loss is that of cosines without a temperature, and every pair is shown as it is.
    assert plain.hard_negatives == 0
    assert not plain.hides_targets
