"""What the benchmark of orders and rows times computes Ã, and claims compare the right times."""

import argparse
import json

import jax.numpy as jnp
import numpy as np
import pytest

from benchmarks.harness import report as harness
from benchmarks.speed import applications, orders_and_rows
from benchmarks.speed.applications import Found, Room
from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training import SharedNegatives

DIM = 4


@pytest.fixture(scope="module")
def graph():
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((60, 50)) < 0.1)
    return BipartiteGraph.from_pairs(users, items, num_users=60, num_items=50)


@pytest.fixture(scope="module")
def measured(graph):
    return applications.measure(graph, DIM, rounds=2)


@pytest.mark.slow
def test_all_ways_compute_the_same(measured):
    # Three orderings beside none; two restricted applications in two orderings.
    assert len(measured.differences) == 3 + 2 * 2
    # Batches read each of these few nodes dozens of times: float32 sums of hundreds of terms.
    assert max(measured.differences.values()) < 1e-4


def test_a_wrong_result_is_seen():
    expected = jnp.array([[1.0, -2.0], [4.0, 0.0]])
    assert applications._difference(expected, expected) == 0
    wrong = expected + jnp.array([[0.0, 0.0], [0.0, -1.0]])
    assert applications._difference(wrong, expected) == pytest.approx(1 / 4)


@pytest.mark.slow
def test_a_batch_has_its_room(graph, measured):
    degrees = [np.asarray(rows.lengths(), float) for rows in graph_rows(graph)]
    for room in measured.rooms.values():
        assert room.all_entries == 2 * graph.num_edges
        assert room.entries >= room.picked
        # A batch of 2,048 rows reads this graph many times over: training restricts nothing.
        assert room.in_training == (False, False)
    # An interaction is met as often as any other, so a node in proportion to its degree.
    of_pair = sum((counts**2).sum() / graph.num_edges for counts in degrees)
    config = TrainConfig()
    size, shared = config.optimization.batch_size, config.negatives
    assert type(shared) is SharedNegatives
    expected = size * of_pair + shared.negatives * degrees[1].mean()
    assert measured.rooms["none"].picked == pytest.approx(expected, rel=0.1)
    # The same batches, whatever the places of the nodes.
    assert measured.rooms["co-clustering"] == measured.rooms["none"]


def graph_rows(graph):
    return graph.items_of_user, graph.users_of_item


def found_of(seconds, differences):
    samples = {title: [value] * 3 for title, value in seconds.items()}
    room = Room(25, 100, 20.0, (True, False))
    return Found(samples, {}, {"co-clustering": room}, differences)


SECONDS = {
    "full, none": 0.018,
    "full, co-clustering": 0.012,
    "rows of a batch, co-clustering": 0.006,
    "transposed from a batch, co-clustering": 0.03,
}


def test_claims_compare_the_right_times():
    found = {"gowalla": found_of(SECONDS, {"a": 1e-7})}
    claims = {claim.name: claim for claim in orders_and_rows._claims(found, dim=64)}
    values = {name: claim.value for name, claim in claims.items()}
    assert values == pytest.approx({"co_clustering_speedup": 1.5, "restricted_last_speedup": 2})
    assert all(claim.holds for claim in claims.values())


def test_claims_that_cannot_be_made_say_why():
    right = found_of(SECONDS, {"a": 1e-7})
    wrong = found_of(SECONDS, {"a": 1e-7, "b": 0.1})
    cases = [({"lastfm": right}, 64), ({"gowalla": right}, 32), ({"gowalla": wrong}, 64)]
    reasons = ["gowalla, D = 64", "gowalla, D = 64", "off by 0.1"]
    for (found, dim), reason in zip(cases, reasons, strict=True):
        for claim in orders_and_rows._claims(found, dim):
            assert claim.holds is None
            assert reason in (claim.reason or "")


def test_break_even_is_where_both_take_as_long():
    numbers = orders_and_rows._restricted_numbers(found_of(SECONDS, {}), "co-clustering")
    # 0.012 s for 100 entries against 0.006 s for 25, and 0.03 s for 25.
    assert numbers["share"] == 0.25
    assert numbers["rows_break_even"] == pytest.approx(0.5)
    assert numbers["transposed_break_even"] == pytest.approx(0.1)


@pytest.mark.slow
def test_the_report_is_kept(graph, measured, monkeypatch):
    monkeypatch.setattr(orders_and_rows, "load_graph", lambda *_: graph)
    monkeypatch.setattr(orders_and_rows, "measure", lambda *_: measured)
    parser = argparse.ArgumentParser()
    parser.add_argument("--data-dir")
    orders_and_rows.add_options(parser)
    report = orders_and_rows.run(parser.parse_args(["--dim", str(DIM), "--rounds", "2"]))
    # Four orderings, two restricted applications in two orderings, three ways to be wide.
    assert len(report.samples) == 4 + 2 * 2 + 3
    assert all(len(samples) == 2 for samples in report.samples.values())
    assert all(value > 0 for samples in report.samples.values() for value in samples)
    kept = json.loads(json.dumps(harness.as_json(report)))
    assert set(kept["details"]["gowalla"]["ordering_seconds"]) == set(orders_and_rows.ORDERINGS)
