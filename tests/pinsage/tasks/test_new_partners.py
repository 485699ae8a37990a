"""Pairs of new partners against the dense matrix of who shares a context with whom."""

import itertools

import numpy as np
import pytest

from lightgcn_jax.data import Interactions
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import csr_rows
from pinsage_jax.data.world import PinWorld, generate_pins
from pinsage_jax.evaluation.metrics import evaluate_items, ranks_of
from pinsage_jax.tasks import new_partners
from pinsage_jax.tasks.holdout import cooccurrence_task
from pinsage_jax.tasks.new_partners import only_new_partners
from pinsage_jax.tasks.task import HeldOut, Task

WORLD = PinWorld(items=150, boards=60, mean_board_size=6, looks=2, uses=2, styles=2)
TASK = cooccurrence_task(generate_pins(WORLD).data)


def rows_of(rows):
    offsets, columns = np.asarray(rows.offsets), np.asarray(rows.columns)
    return [columns[one:other].tolist() for one, other in itertools.pairwise(offsets)]


def partners_of(task):
    """Whether two items share a training context, ``bool[I, I]``; an item with one is its own."""
    held = np.zeros((task.train.num_users, task.train.num_items), bool)
    held[task.train.user_rows, task.train.item_rows] = True
    return held.T.astype(int) @ held.astype(int) > 0


def by_hand():
    """Contexts {0, 1}, {1, 2}, {3, 4, 1 twice}; item 5 is alone."""
    train = Interactions.from_arrays([0, 0, 1, 1, 2, 2, 2, 2, 3], [0, 1, 1, 2, 3, 4, 1, 1, 5])
    held_out = HeldOut(
        np.array([[0], [1], [3], [5]], np.int32),
        # 0 → 1 is known and 0 → 3 new; 1 → 2 is known; 3 → 2 and 3 → 5 are new; 5 → 0 is.
        csr_rows([0, 0, 1, 2, 2, 3], [1, 3, 2, 2, 5, 0], 4),
        csr_rows([0, 0, 1, 2, 3], [0, 4, 1, 3, 5], 4),
    )
    return Task(None, train, None, held_out, held_out, np.ones(6, bool)), held_out


@pytest.mark.parametrize("partners", [1, new_partners._BLOCK_PARTNERS], ids=["row by row", "whole"])
def test_known_partners_are_left_out_and_not_asked_for(partners, monkeypatch):
    monkeypatch.setattr(new_partners, "_BLOCK_PARTNERS", partners)
    found = only_new_partners(*by_hand())
    assert rows_of(found.held_out.relevant) == [[3], [], [2, 5], [0]]
    # 4 was seen before; query 1 keeps no pair, so nothing is added to its own.
    assert rows_of(found.held_out.seen) == [[0, 1, 4], [1], [1, 3, 4], [5]]
    assert (found.held_out.relevant.longest, found.held_out.seen.longest) == (2, 3)
    assert found.describe() == "4 of 6 pairs share no training context"


@pytest.mark.parametrize("part", ["valid", "test", "fresh"])
def test_ranks_are_those_among_what_is_no_partner(part):
    held_out, partners = getattr(TASK, part), partners_of(TASK)
    found = only_new_partners(TASK, held_out)
    queries, positives = held_out.queries[:, 0], np.asarray(held_out.relevant.columns)
    new = ~partners[queries, positives]
    assert (found.kept, found.asked) == (new.sum(), len(queries))
    assert 0 < found.kept <= found.asked
    vectors = np.random.default_rng(0).normal(size=(150, 8)).astype(np.float32)
    scores = vectors.astype(np.float64) @ vectors.T
    pool = np.ones(150, bool) if part == "fresh" else TASK.train_items
    expected = []
    for query, positive in zip(queries[new], positives[new], strict=True):
        among = pool & ~partners[query] & (np.arange(150) != query)
        expected.append(1 + (scores[query][among] > scores[query, positive]).sum())
    candidates = np.flatnonzero(pool)
    np.testing.assert_array_equal(
        ranks_of(vectors, found.held_out, candidates=candidates), expected
    )
    metrics = evaluate_items(vectors, found.held_out, candidates=candidates, ks=(10,)).metrics
    assert metrics["hit_rate@10"] == pytest.approx(np.mean(np.array(expected) <= 10))
    assert metrics["mrr"] == pytest.approx(np.mean(1 / np.array(expected)))


def test_where_all_know_each_other_no_pair_is_left():
    train = Interactions.from_arrays([0, 0, 0], [0, 1, 2])
    held_out = HeldOut(
        np.array([[0], [1]], np.int32), csr_rows([0, 1], [1, 2], 2), csr_rows([0, 1], [0, 1], 2)
    )
    task = Task(None, train, None, held_out, held_out, np.ones(3, bool))
    found = only_new_partners(task, held_out)
    assert (found.kept, found.asked) == (0, 2)
    assert rows_of(found.held_out.seen) == [[0], [1]]


def test_queries_of_several_items_are_refused():
    task, held_out = by_hand()
    several = held_out._replace(queries=np.array([[0, 1]] * 4, np.int32))
    with pytest.raises(InputError, match="expected queries of one item, got up to 2"):
        only_new_partners(task, several)
