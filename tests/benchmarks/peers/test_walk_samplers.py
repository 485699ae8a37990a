"""The peers' walks follow the law that they say they follow, and without an end it is that of ours.

Visits of one walk depend on each other, so what is counted is a whole walk: the multiset of the
items that it visits beside its seed. Walks are independent, and the law of the multiset is exact.
"""

import collections
import sys

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("numba", reason="needs numba, which the bench extra brings")

from benchmarks.peers.walk_samplers import dgl_peer, numba_peer
from benchmarks.workloads.pins_100k import Edges
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import importance_neighbors
from pinsage_jax.graph.walks import WalkConfig, walk
from tests.lightgcn.laws import LEVEL, chi_square

# Item 0 stands in context 0 twice, context 3 holds one item alone.
ITEMS = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4], np.int32)
CONTEXTS = np.array([0, 0, 1, 0, 2, 1, 2, 2, 3, 2, 0], np.int32)
NUM_ITEMS, NUM_CONTEXTS, SEED = 5, 4, 3
GRAPH = ItemGraph.from_pairs(ITEMS, CONTEXTS, num_items=NUM_ITEMS, num_contexts=NUM_CONTEXTS)
EDGES = Edges(ITEMS, CONTEXTS, GRAPH)
LENGTH, WALKS = 3, 20_000
# A walk of each seed in the batch, and the batch is one seed many times over.
ONE_WALK = WalkConfig(walks=1, length=LENGTH, restart=0.0)
ENDING = WalkConfig(walks=1, length=LENGTH, restart=0.4)


def step_matrix(items, contexts):
    """The law of one traversal from each item: a context of the item, an item of the context."""
    edges = np.zeros((items.max() + 1, contexts.max() + 1))
    np.add.at(edges, (items, contexts), 1.0)
    of_item, of_context = edges.sum(axis=1, keepdims=True), edges.sum(axis=0)
    return edges / np.maximum(of_item, 1) @ (edges / np.maximum(of_context, 1)).T


def law_of_walks(end: float) -> dict[tuple[int, ...], float]:
    """The probability of each multiset of visits, where a walk ends with probability ``end``
    before a traversal but the first."""
    steps, law = step_matrix(ITEMS, CONTEXTS), collections.defaultdict(float)

    def go_on(visits, probability):
        if len(visits) == LENGTH:
            law[beside_seed(visits)] += probability
            return
        if visits:
            law[beside_seed(visits)] += probability * end
            probability *= 1 - end
        for item, share in enumerate(steps[visits[-1] if visits else SEED]):
            if share:
                go_on((*visits, item), probability * share)

    go_on((), 1.0)
    assert sum(law.values()) == pytest.approx(1)
    return law


def beside_seed(visits) -> tuple[int, ...]:
    return tuple(sorted(item for item in visits if item not in (SEED, -1)))


def of_peer(ids, counts):
    return [np.repeat(row, number) for row, number in zip(ids, counts, strict=True)]


def of_numba(config):
    return of_peer(
        *numba_peer(GRAPH, np.full(WALKS, SEED, np.int32), neighbors=LENGTH, config=config, key=7)
    )


def of_ours(config):
    """Walkers of one seed, for a seed that stands twice in a batch walks the same walks twice."""
    many = WalkConfig(walks=WALKS, length=config.length, restart=config.restart)
    visits = walk(jax.random.key(7), GRAPH, jnp.array([SEED]), config=many)
    return np.asarray(visits).reshape(LENGTH, WALKS).T


def p_value(walks, law) -> float:
    found = collections.Counter(map(beside_seed, walks))
    assert set(found) <= set(law)
    outcomes = sorted(law)
    return chi_square([found[one] for one in outcomes], [law[one] for one in outcomes])


@pytest.mark.slow
def test_walks_that_do_not_end_have_one_law_here_and_there():
    law = law_of_walks(0.0)
    assert p_value(of_numba(ONE_WALK), law) > LEVEL
    assert p_value(of_ours(ONE_WALK), law) > LEVEL


@pytest.mark.slow
def test_walks_of_the_compiled_sampler_end_at_random():
    walks, law = of_numba(ENDING), law_of_walks(ENDING.restart)
    assert p_value(walks, law) > LEVEL
    assert p_value(walks, law_of_walks(0.3)) < LEVEL


def test_neighbours_are_the_most_visited_and_the_same_as_ours():
    rng, number, kept, most = np.random.default_rng(0), 12, 2, 20_000
    items, contexts = rng.integers(0, number - 1, 24, np.int32), np.arange(24) % 8
    graph = ItemGraph.from_pairs(items, contexts, num_items=number, num_contexts=8)
    step = np.pad(step_matrix(items, contexts), (0, 1))
    expected = sum(np.linalg.matrix_power(step, power) for power in range(1, LENGTH + 1))
    np.fill_diagonal(expected, 0)
    ranked = -np.sort(-expected, axis=1)[:, : kept + 1]
    # The visits N ≤ L of a walk have a variance of at most L E[N]; four deviations part the ranks.
    deviation = np.sqrt(LENGTH * ranked[:, :1] / most)
    [clear] = np.nonzero((-np.diff(ranked, axis=1) > 4 * deviation).all(axis=1))
    assert len(clear) >= 4
    seeds = np.append(clear, number - 1).astype(np.int32)
    config = WalkConfig(walks=most, length=LENGTH, restart=0.0)
    ids, counts = numba_peer(graph, seeds, neighbors=kept, config=config)
    np.testing.assert_array_equal(ids[:-1], np.argsort(-expected[clear], axis=1)[:, :kept])
    np.testing.assert_allclose(
        counts[:-1] / most, ranked[clear, :kept], atol=4 * deviation[clear].max()
    )
    # The last item is isolated.
    assert (ids[-1] == -1).all()
    assert not counts[-1].any()
    everything, tallies = numba_peer(graph, seeds, neighbors=number, config=config)
    np.testing.assert_array_equal(ids, everything[:, :kept])
    np.testing.assert_array_equal(counts, tallies[:, :kept])
    visits = walk(jax.random.key(1), graph, jnp.asarray(seeds), config=config)
    ours = importance_neighbors(jax.random.key(2), seeds, np.asarray(visits), kept)
    np.testing.assert_array_equal(ids, ours.ids)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    np.testing.assert_allclose(shares, ours.weights, atol=0.02)


def test_rows_of_a_batch_are_independent():
    law = law_of_walks(0.0)
    # The four most frequent multisets, and all others as one.
    group = collections.defaultdict(lambda: 4)
    group.update({one: at for at, one in enumerate(sorted(law, key=lambda one: -law[one])[:4])})
    shares = np.zeros(5)
    for one, share in law.items():
        shares[group[one]] += share
    rows = np.array([group[beside_seed(one)] for one in of_numba(ONE_WALK)])
    pairs = np.bincount(rows[::2] * 5 + rows[1::2], minlength=25)
    assert chi_square(pairs, np.outer(shares, shares).ravel()) > LEVEL


def test_dgl_walks_by_the_same_law():
    for config in (ONE_WALK, ENDING):
        call = dgl_peer(EDGES, np.array([SEED], np.int32), neighbors=LENGTH, config=config)
        if call is None:
            pytest.skip("needs DGL, which no extra brings")
        sys.modules["dgl"].seed(0)
        walks = []
        # The seeds of one call must be distinct, so that it is called many times.
        for _ in range(2_000):
            found = call()
            items, counts = found.edges()[0].numpy(), found.edata["weights"].numpy().astype(int)
            walks.append(np.repeat(items, counts))
        assert p_value(walks, law_of_walks(config.restart)) > LEVEL
