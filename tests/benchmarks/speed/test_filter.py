"""The filters' benchmark ranks what it fits, and claims of it what was measured."""

import argparse

import pytest

from benchmarks.speed import filter as benchmark
from benchmarks.workloads.gowalla import Workload
from lightgcn_jax.data import given_split
from lightgcn_jax.data.synthetic import block_world
from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.graph.bipartite import training_graph
from lightgcn_jax.models import Filter


def test_a_fit_is_timed_and_ranked_in_full(monkeypatch):
    """In a world in which a user's withheld item is the only unseen one of the own group."""
    split = given_split(block_world(groups=4, users_per_group=40, items_per_group=30))
    graph = training_graph(split)
    relevant = csr_rows(split.test.users, split.test.items, len(split.users))
    workload = Workload(split, graph, diffusion_operator(graph), relevant)
    monkeypatch.setattr(benchmark, "load_gowalla", lambda _: workload)
    found = benchmark.fit_and_evaluate(Filter(low_pass_rank=8), None)
    assert found["metrics"]["recall@20"] == found["metrics"]["ndcg@20"] == 1
    assert min(found["fit_seconds"], found["evaluation_seconds"], found["cpu_seconds"]) > 0


def test_claims_are_of_the_slowest_and_of_the_best(monkeypatch):
    recalls = iter([0.19, 0.194, 0.193])

    def child(*_):
        metrics = {"recall@20": next(recalls), "ndcg@20": 0.16}
        return {"fit_seconds": 20.0, "evaluation_seconds": 70.0, "metrics": metrics}

    monkeypatch.setattr(benchmark, "_child", child)
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir")
    benchmark.add_options(parser)
    seconds, recall, ndcg = benchmark.run(parser.parse_args([])).claims
    assert (seconds.name, seconds.value, seconds.holds) == ("fit_and_evaluate_seconds", 90, True)
    assert (recall.name, recall.value, recall.holds) == ("recall_at_20", 0.194, True)
    assert (ndcg.name, ndcg.value, ndcg.holds) == ("ndcg_at_20", 0.16, True)
    with pytest.raises(SystemExit):
        parser.parse_args(["--models", "GF-CF"])
