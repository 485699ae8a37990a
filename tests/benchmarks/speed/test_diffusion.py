"""The diffusion benchmark: contenders compute the same, memory is foreseen, claims are made."""

import argparse
import json

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")
pytest.importorskip("torch_geometric", reason="needs PyG, which the bench extra brings")
pytest.importorskip("numba", reason="needs numba, which the bench extra brings")

import torch

from benchmarks.harness import report as harness
from benchmarks.peers.diffusion import peers
from benchmarks.speed import diffusion, diffusion_grid
from benchmarks.speed.diffusion_grid import Cell, Grid, Limits
from benchmarks.workloads.diffusion_contenders import ALPHAS, TASKS, Problem, Sizes, storages
from benchmarks.workloads.graphs import load_graph
from lightgcn_jax.graph import BipartiteGraph

CONTENDERS = storages() | peers()
RUNNABLE = [name for name, contender in CONTENDERS.items() if contender.obstacle is None]
CLAIMS = [
    "largest_difference",
    "native_vs_ceiling_f32",
    "native_vs_ceiling_bf16",
    "native_vs_torch_csr",
    "native_vs_torch_csr_elsewhere",
    "k3_speedup_vs_torch_symmetric",
    "k3_speedup_vs_torch_csr",
    "k3_speedup_vs_torch_coo",
    "bucketed_speedup_vs_segment",
    "k3_extra_arrays",
]


def graph_of(num_users, num_items, density):
    """The last user and the last item have no interaction."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((num_users - 1, num_items - 1)) < density)
    return BipartiteGraph.from_pairs(users, items, num_users=num_users, num_items=num_items)


@pytest.fixture(scope="module")
def small():
    return Problem(graph_of(30, 40, 0.2), dim=16)


@pytest.fixture(scope="module")
def large():
    """Where messages of 60 entries a node outweigh tables."""
    return Problem(graph_of(600, 700, 0.1), dim=32)


@pytest.fixture(scope="module")
def started(small):
    """Contenders, each made ready once."""
    ready = {}

    def start(name):
        if name not in ready:
            ready[name] = CONTENDERS[name].start(small)
        return ready[name]

    return start


def dense(problem):
    """Ã from its definition."""
    users, items = problem.graph.pairs()
    nodes, num_users = problem.graph.num_nodes, problem.graph.num_users
    adjacency = np.zeros((nodes, nodes))
    adjacency[users, num_users + items] = adjacency[num_users + items, users] = 1
    roots = np.sqrt(np.maximum(adjacency.sum(axis=1), 1))
    return adjacency / np.outer(roots, roots), adjacency


@pytest.mark.parametrize("name", RUNNABLE)
def test_all_contenders_compute_the_same(name, small, started):
    matrix, adjacency = dense(small)
    contender, calls = CONTENDERS[name], started(name).calls
    assert set(calls) == set(contender.tasks)
    rows = slice(None) if started(name).rows is None else started(name).rows
    if "forward" in calls:
        y = (matrix if contender.weighted else adjacency) @ small.x
        got = calls["forward"]()
        got = np.asarray(got.float() if isinstance(got, torch.Tensor) else got, np.float32)[rows]
        assert np.abs(got - y).max() <= contender.tolerance * np.abs(y).max()
    if "k3" in calls:
        polynomial = sum(
            alpha * np.linalg.matrix_power(matrix, k) for k, alpha in enumerate(ALPHAS)
        )
        error = polynomial @ small.x - small.target
        loss, gradient = calls["k3"]()
        np.testing.assert_allclose(float(loss), (error**2).sum(), rtol=1e-4)
        np.testing.assert_allclose(
            np.asarray(gradient)[rows], 2 * polynomial @ error, rtol=1e-4, atol=1e-5
        )


def test_a_wrong_result_is_seen(small):
    matrix, _ = dense(small)
    y = matrix @ small.x
    assert small.difference("forward", y) < 1e-6
    y[3, 0] += 0.5 * np.abs(y[:, :8]).max()
    assert small.difference("forward", y) == pytest.approx(0.5, rel=0.5)


@pytest.mark.parametrize("name", [name for name in storages() if name in RUNNABLE])
def test_memory_of_storages_is_foreseen(name, large):
    table = large.sizes.table
    need = CONTENDERS[name].need(large.sizes)
    for task, temporaries in CONTENDERS[name].start(large).temporaries.items():
        held = temporaries + table  # y, or the gradient
        assert held <= getattr(need, task) <= held + 5 * table


@pytest.mark.parametrize("name", ["torch-coo", "torch-csr", "torch-csr-symmetric", "pyg-lgconv"])
def test_memory_of_peers_is_foreseen(name, large):
    sizes = large.sizes
    need = CONTENDERS[name].need(sizes)
    for task, call in CONTENDERS[name].start(large).calls.items():
        held = peak_bytes(call)
        slack = 4 * sizes.table + 30 * sizes.entries
        assert held <= getattr(need, task) <= held + slack


def peak_bytes(call):
    """The most that PyTorch held at once for a call, beside what it held before."""
    call()
    with torch.profiler.profile(
        activities=[torch.profiler.ProfilerActivity.CPU], profile_memory=True
    ) as profiler:
        kept = call()
    events = profiler.profiler.kineto_results.events()
    moments = sorted((e.start_ns(), e.nbytes()) for e in events if e.name() == "[memory]")
    del kept
    return np.cumsum([size for _, size in moments]).max()


def test_messages_of_twenty_million_edges_do_not_fit():
    sizes = Sizes(nodes=1_000_000, entries=40_000_000, dim=256)
    assert CONTENDERS["pyg-lgconv"].need(sizes).forward > 80e9
    assert CONTENDERS["bcoo"].need(sizes).forward > 40e9
    assert CONTENDERS["segment"].need(sizes).forward < 5e9
    assert CONTENDERS["csr"].need(sizes).forward < 5e9


def race(graph, names, seconds=60):
    grid = Grid.empty()
    contenders = {name: CONTENDERS[name] for name in names}
    diffusion_grid.run_graph(grid, "gowalla", graph, 16, contenders, TASKS, Limits(2, seconds))
    return grid


@pytest.mark.slow
def test_what_would_not_fit_is_reported_and_not_run(small, monkeypatch):
    names = ["csr", "pyg-lgconv", "numba"]
    sizes = small.sizes
    held = 6 * sizes.table + sum(CONTENDERS[name].need(sizes).matrix for name in names)
    enough = held + CONTENDERS["csr"].need(sizes).k3
    assert enough < held + CONTENDERS["pyg-lgconv"].need(sizes).forward
    monkeypatch.setattr(diffusion_grid, "available_memory", lambda: int(enough / 0.9) + 2)
    forbidden = peers()["pyg-lgconv"]._replace(start=lambda _: pytest.fail("started"))
    monkeypatch.setitem(CONTENDERS, "pyg-lgconv", forbidden)
    grid = race(small.graph, names)
    cells = {(cell.contender, cell.task) for cell in grid.samples}
    assert cells == {("csr", "forward"), ("csr", "k3"), ("numba", "forward")}
    assert {(cell.contender, cell.task) for cell in grid.reasons} == {
        ("pyg-lgconv", "forward"),
        ("pyg-lgconv", "k3"),
    }
    assert all("would not fit memory" in reason for reason in grid.reasons.values())


@pytest.mark.slow
def test_what_is_too_slow_is_reported(small):
    grid = race(small.graph, ["scipy"], seconds=1e-9)
    assert not grid.samples
    assert [reason.split(":")[0] for reason in grid.reasons.values()] == ["too slow"] * 2


def gowalla(contender, task="forward"):
    return Cell("gowalla", 64, task, contender)


def grid_of(forward, k3):
    """A grid of Gowalla where contenders took so many seconds, three times each."""
    seconds = {gowalla(name): value for name, value in forward.items()}
    seconds |= {gowalla(name, "k3"): value for name, value in k3.items()}
    samples = {cell: [value] * 3 for cell, value in seconds.items()}
    return Grid(samples, {}, dict.fromkeys(samples, 1e-3), {gowalla("native", "k3"): 2.0})


FORWARD = {
    "native": 0.004,
    "native-bfloat16": 0.0016,
    "embedding-bag-bfloat16": 0.0032,
    "csr": 0.0105,
    "segment": 0.12,
    "bucketed": 0.04,
    "torch-csr": 0.01,
    "embedding-bag": 0.008,
    "embedding-bag-weighted": 0.009,
    "numba": 0.011,
    "scipy": 0.03,
}
K3 = {
    "native": 0.02,
    "torch-csr": 0.3,
    "torch-csr-symmetric": 0.066,
    "torch-csr-horner": 0.05,
    "torch-coo": 0.42,
}


def claims_of(grid, threads=2):
    return {claim.name: claim for claim in diffusion._claims(grid, threads, None)}


def test_claims_compare_the_right_cells():
    grid = grid_of(FORWARD, K3)
    # Of two other cells the less favourable one.
    for dim, ours, peer in ((256, 0.02, 0.05), (128, 0.01, 0.016)):
        grid.samples[gowalla("native")._replace(dim=dim)] = [ours] * 3
        grid.samples[gowalla("torch-csr")._replace(dim=dim)] = [peer] * 3
    claims = claims_of(grid)
    values = {name: claim.value for name, claim in claims.items()}
    assert values == pytest.approx(
        {
            "largest_difference": 1e-3,
            "native_vs_ceiling_f32": 0.004 / 0.008,
            "native_vs_ceiling_bf16": 0.0016 / 0.0032,
            "native_vs_torch_csr": 0.01 / 0.004,
            "native_vs_torch_csr_elsewhere": 0.016 / 0.01,
            "k3_speedup_vs_torch_symmetric": 0.05 / 0.02,
            "k3_speedup_vs_torch_csr": 0.3 / 0.02,
            "k3_speedup_vs_torch_coo": 0.42 / 0.02,
            "bucketed_speedup_vs_segment": 0.12 / 0.04,
            "k3_extra_arrays": 2.0,
        }
    )
    assert all(claim.holds for claim in claims.values())


def test_claims_that_cannot_be_made_say_why():
    slow = claims_of(grid_of(FORWARD | {"torch-csr": 0.02}, K3))["native_vs_torch_csr"]
    assert slow.holds is None
    assert "peer's forward, torch-csr took" in slow.reason
    missing = claims_of(grid_of({"native": 0.01}, K3))["native_vs_ceiling_f32"]
    assert "forward: embedding-bag: left out" in missing.reason
    wrong = grid_of(FORWARD, K3)
    wrong.differences[gowalla("torch-csr")] = 1.5
    claims = claims_of(wrong)
    assert "off by 2 times the tolerance" in claims["native_vs_torch_csr"].reason
    assert claims["largest_difference"].holds is False
    alone = claims_of(grid_of(FORWARD, K3), threads=1)
    assert "2 threads, not 1" in alone["native_vs_torch_csr"].reason
    assert "no other graph or width" in claims["native_vs_torch_csr_elsewhere"].reason


@pytest.mark.slow
def test_the_report_has_its_claims(small, monkeypatch, tmp_path):
    pytest.importorskip("matplotlib", reason="needs the plot extra")
    monkeypatch.setattr(diffusion, "load_graph", lambda *_: small.graph)
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir")
    diffusion.add_options(parser)
    drawing = tmp_path / "medians.png"
    options = ["--rounds", "2", "--dims", "16", "--plot", str(drawing)]
    options += ["--contenders", "csr", "scipy", "torch-csr", "--threads", str(harness.cores())]
    report = diffusion.run(parser.parse_args(options))
    assert [claim.name for claim in report.claims] == CLAIMS
    assert len(report.samples) == 6
    assert all(len(samples) == 2 for samples in report.samples.values())
    kept = json.loads(json.dumps(harness.as_json(report)))
    assert kept["details"]["extra_arrays"]["gowalla, D = 16, k3: csr"] > 0
    assert drawing.read_bytes().startswith(b"\x89PNG")


def test_generated_graphs_follow_a_power_law():
    graph = load_graph("generated-1m", None)
    assert graph.num_edges == pytest.approx(1_000_000, rel=0.01)
    degrees = np.sort(np.asarray(graph.users_of_item.lengths()))[::-1].astype(float)
    ranks = np.arange(1, len(degrees) + 1)
    middle = slice(20, 10_000)
    slope, _ = np.polyfit(np.log(ranks[middle]), np.log(degrees[middle]), 1)
    assert slope == pytest.approx(-0.8, abs=0.05)
