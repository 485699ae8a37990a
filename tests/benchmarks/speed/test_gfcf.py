"""The GF-CF benchmark measures the model that is fitted, and claims of it what was measured."""

import argparse

import pytest

from benchmarks.speed import gfcf as benchmark
from benchmarks.workloads.gowalla import Workload
from lightgcn_jax.data import given_split
from lightgcn_jax.data.synthetic import block_world
from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.graph import BipartiteGraph, csr_rows
from lightgcn_jax.models import GfCf


@pytest.fixture
def blocks(monkeypatch):
    """A world in which the withheld item of a user is the only unseen one of the own group."""
    split = given_split(block_world(groups=4, users_per_group=40, items_per_group=30))
    num_users, num_items = len(split.users), len(split.items)
    graph = BipartiteGraph.from_pairs(
        split.train.users, split.train.items, num_users=num_users, num_items=num_items
    )
    relevant = csr_rows(split.test.users, split.test.items, num_users)
    workload = Workload(split, graph, diffusion_operator(graph), relevant)
    monkeypatch.setattr(benchmark, "load_gowalla", lambda _: workload)
    monkeypatch.setattr(benchmark, "GfCf", lambda: GfCf(singular_vectors=8))


@pytest.mark.usefixtures("blocks")
def test_a_fit_is_timed_and_ranked_in_full():
    found = benchmark.fit_and_evaluate(None, accuracy=True)
    # Every user's one test item comes first.
    assert found["metrics"]["recall@20"] == 1
    assert found["metrics"]["precision@20"] == pytest.approx(1 / 20)
    assert found["metrics"]["ndcg@20"] == 1
    assert found["fit_seconds"] > 0
    assert found["evaluation_seconds"] > 0
    assert "metrics" not in benchmark.fit_and_evaluate(None, accuracy=False)


def test_claims_are_of_fresh_processes(monkeypatch):
    seconds = iter([12.0, 4.0, 5.0])

    def child(_, *, accuracy):
        found = {"fit_seconds": next(seconds), "again_seconds": 3.0, "peak_gb": 0.9}
        ranked = {"evaluation_seconds": 20.0, "metrics": {"recall@20": 0.187}}
        return found | (ranked if accuracy else {})

    monkeypatch.setattr(benchmark, "_child", child)
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir")
    benchmark.add_options(parser)
    report = benchmark.run(parser.parse_args([]))
    fit, recall = report.claims
    assert (fit.name, fit.value, fit.holds) == ("fit_seconds", 5.0, True)
    assert (recall.name, recall.value, recall.holds) == ("recall_at_20", 0.187, True)
