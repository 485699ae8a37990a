import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats

from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import csr_rows
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.pagerank import pagerank
from pinsage_jax.graph.walks import WalkConfig, walk
from pinsage_jax.negatives.hard import (
    HardPool,
    draw_hard,
    make_pool,
)
from pinsage_jax.negatives.rank_band import pick_from_band, scaled_band
from tests.lightgcn.laws import LEVEL, chi_square

ITEMS, CONTEXTS = 40, 40
RESTART = 0.15
KEY = jax.random.key(0)


def ring(repeated=True):
    """Context c holds items c, c + 1 and c + 3 in a ring that only numbers of edges tell apart;
    item 39 and context 36 have none."""
    contexts = np.repeat(np.arange(CONTEXTS), 3)
    items = (contexts + np.tile([0, 1, 3], CONTEXTS)) % ITEMS
    kept = (items != ITEMS - 1) & (contexts != 36)
    times = np.random.default_rng(0).integers(1, 50, kept.sum()) if repeated else 1
    items, contexts = (np.repeat(rows[kept], times) for rows in (items, contexts))
    graph = ItemGraph.from_pairs(items, contexts, num_items=ITEMS, num_contexts=CONTEXTS)
    adjacency = np.zeros((ITEMS, CONTEXTS))
    np.add.at(adjacency, (items, contexts), 1)
    return graph, adjacency


GRAPH, ADJACENCY = ring()
CONNECTED = (ADJACENCY @ ADJACENCY.T > 0) | np.eye(ITEMS, dtype=bool)


def shares(matrix):
    totals = matrix.sum(axis=1, keepdims=True)
    return np.divide(matrix, totals, out=np.zeros_like(matrix), where=totals > 0)


def exact_pagerank(onward, back):
    """α (1 − (1−α) P)⁻¹ in float64: row q holds the scores for q."""
    step = shares(onward) @ shares(back)
    return RESTART * np.linalg.inv(np.eye(len(step)) - (1 - RESTART) * step)


SCORES = exact_pagerank(ADJACENCY, ADJACENCY.T)


def ranks_of(query):
    """The other items that walks from the query reach, best first."""
    order = np.argsort(-SCORES[query], kind="stable")
    return [item for item in order.tolist() if item != query and SCORES[query, item] > 0]


def star():
    """Item 0 knows item 1; 1 knows 2, 3, 4 and 5, which are alike. Item 6 is alone."""
    return ItemGraph.from_pairs(
        [0, 1, 1, 2, 3, 4, 5], [0, 0, 1, 1, 1, 1, 1], num_items=7, num_contexts=2
    )


def members(pool, row):
    ids = np.asarray(pool.ids)[row]
    held = ids[ids >= 0]
    assert (ids[: len(held)] == held).all(), "padding stands at the end"
    assert len(set(held.tolist())) == len(held)
    return set(held.tolist())


@pytest.mark.parametrize("repeated", [True, False])
def test_pagerank_is_that_of_the_dense_matrix(repeated):
    graph, adjacency = ring(repeated)
    found = pagerank(graph, np.arange(ITEMS), restart=RESTART, iterations=200)
    expected = exact_pagerank(adjacency, adjacency.T)
    # An item without contexts keeps its own start alone.
    np.testing.assert_allclose(found, expected, rtol=1e-3, atol=1e-7)
    assert ((np.asarray(found) == 0) == (expected == 0)).all()


def test_pagerank_after_few_iterations_keeps_the_rest_where_walks_are():
    found = pagerank(GRAPH, np.arange(ITEMS), restart=RESTART, iterations=3)
    step = shares(ADJACENCY) @ shares(ADJACENCY.T)
    x = np.eye(ITEMS)
    for _ in range(3):
        x = RESTART * np.eye(ITEMS) + (1 - RESTART) * x @ step
    np.testing.assert_allclose(found, x, rtol=1e-4, atol=1e-7)


def test_pagerank_of_a_new_item_that_no_context_lists():
    graph = ItemGraph.from_pairs(
        [0, 1, 1, 2], [0, 0, 1, 1], num_items=3, num_contexts=2, item_slack=1, edge_slack=2
    ).with_items([3], [[0, 1]])
    onward = np.array([[1, 0], [1, 1], [0, 1], [1, 1]], float)
    back = np.array([[1, 1, 0, 0], [0, 1, 1, 0]], float)
    found = pagerank(graph, np.arange(4), restart=RESTART, iterations=200)
    np.testing.assert_allclose(found, exact_pagerank(onward, back), rtol=1e-4, atol=1e-7)


def test_the_pool_is_the_band_without_what_is_connected():
    pool = make_pool(KEY, GRAPH, band=(4, 16), pool=20, iterations=200)
    sizes = []
    for query in range(ITEMS):
        expected = {item for item in ranks_of(query)[4:16] if not CONNECTED[query, item]}
        assert members(pool, query) == expected
        sizes.append(len(expected))
    assert min(sizes[:-1]) < 12, "the connected reach into the band"
    # Item 39 has no context: it is not asked for.
    assert sizes[-1] == 0
    assert pool.filled == sum(sizes) / (20 * (ITEMS - 1))
    assert pool.tied == 0
    assert pool.band == (4, 16)


def test_positives_are_not_pooled_and_the_band_does_not_move():
    query = 7
    band = [item for item in ranks_of(query)[4:16] if not CONNECTED[query, item]]
    positives = csr_rows(np.array([query, query, 3]), np.array([band[0], band[2], 1]), query + 1)
    settings = {"band": (4, 16), "pool": 20, "iterations": 200}
    pool = make_pool(KEY, GRAPH, **settings, positives=positives)
    assert members(pool, query) == set(band) - {band[0], band[2]}
    free = make_pool(KEY, GRAPH, **settings)
    others = np.delete(np.arange(ITEMS), [query, 3])
    assert (np.asarray(pool.ids)[others] == np.asarray(free.ids)[others]).all()


def test_filled_and_tied_by_hand():
    # From item 0: item 1 has rank 0; items 2 to 5 tie at ranks 1 to 4.
    cut = make_pool(KEY, star(), rows=np.array([0, 6]), band=(1, 3), pool=2)
    assert len(members(cut, 0)) == 2
    assert members(cut, 0) <= {2, 3, 4, 5}
    assert (cut.filled, cut.tied) == (2 / 4, 1.0)
    whole = make_pool(KEY, star(), rows=np.array([0, 6]), band=(0, 5), pool=8)
    # Item 1 is connected; item 6 reaches nothing.
    assert members(whole, 0) == {2, 3, 4, 5}
    assert (whole.filled, whole.tied) == (4 / 16, 0.0)


QUERIES = 100 + jnp.arange(20_000)
NOTHING = jnp.zeros((20_000, 12), bool)


def counts_picked(scores, forbidden):
    """How often each of 12 items is one of the 2 picked from ranks 3 to 6, and how often tied."""
    scores = jnp.broadcast_to(jnp.asarray(scores, jnp.float32), (20_000, 12))
    picked, tied = pick_from_band(jax.random.key(1), scores, forbidden, QUERIES, (3, 7), 2)
    return np.bincount(np.asarray(picked).ravel(), minlength=12), np.asarray(tied)


def test_ties_are_broken_alike_for_all():
    counts, tied = counts_picked(np.ones(12), NOTHING)
    assert chi_square(counts, np.ones(12)) > LEVEL
    assert (tied == 2).all()


def test_ties_that_the_hash_leaves_favour_no_row():
    """5,000 equal items, 2,000 queries: a hash of 8 bits leaves twenty in each of its classes, and
    the band's end cuts through one of them."""
    scores = jnp.broadcast_to(jnp.ones((1, 5_000)), (100, 5_000))
    nobody = jnp.zeros((100, 5_000), bool)
    picked = np.concatenate(
        [
            np.asarray(
                pick_from_band(
                    KEY, scores, nobody, 10_000 + 100 * at + jnp.arange(100), (0, 50), 50
                )[0]
            )
            for at in range(20)
        ]
    )
    # Half a thousand items share a bin, each picked 20 times: rows are uniform, and so are items.
    assert chi_square(np.bincount(picked.ravel() // 500, minlength=10), np.ones(10)) > LEVEL
    assert chi_square(np.bincount(picked.ravel(), minlength=5_000), np.ones(5_000)) > LEVEL


def test_items_are_picked_uniformly_from_what_is_allowed():
    # Item i has rank i; 4 of the band's 3, 4, 5 and 6 is forbidden.
    counts, tied = counts_picked(12.0 - np.arange(12), NOTHING.at[:, 4].set(True))
    assert chi_square(counts, np.isin(np.arange(12), [3, 5, 6])) > LEVEL
    assert not tied.any()


def test_only_a_tie_across_the_edge_counts():
    """The last 8 bits of a score do not tell items apart; around 6 they are worth 2⁻¹³."""
    scores = 12.0 - np.arange(12)
    # Items 6 and 7, the last in the band and the first after it.
    scores[6], scores[7] = 6 + 2.0**-14, 6 + 2.0**-15
    counts, tied = counts_picked(scores, NOTHING)
    assert chi_square(counts, np.array([0, 0, 0, 2, 2, 2, 1, 1, 0, 0, 0, 0])) > LEVEL
    assert set(tied.tolist()) == {0, 1}
    scores[7] = 6 - 2.0**-13
    counts, tied = counts_picked(scores, NOTHING)
    assert counts[7] == 0
    assert not tied.any()


def test_walks_rank_as_pagerank_does():
    config = WalkConfig(walks=20_000, length=20, restart=RESTART)
    visits = np.asarray(walk(KEY, GRAPH, jnp.array([7]), config=config))[0]
    counts = np.bincount(visits[visits >= 0], minlength=ITEMS)
    others = np.delete(np.arange(ITEMS), 7)
    ranks = scipy.stats.rankdata([counts[others], SCORES[7, others]], axis=1)
    assert np.corrcoef(ranks)[0, 1] > 0.99


def test_a_pool_from_walks_comes_from_about_the_same_band():
    settings = {"ranking": "walks", "band": (4, 16), "pool": 20}
    pool = make_pool(KEY, GRAPH, **settings, visits=100_000, length=20, restart=RESTART)
    shared = []
    for query in range(ITEMS - 1):
        exact = {item for item in ranks_of(query)[4:16] if not CONNECTED[query, item]}
        found = members(pool, query)
        assert not any(CONNECTED[query, item] for item in found)
        shared.append(len(found & exact) / len(found | exact))
    assert np.mean(shared) > 0.8
    few = make_pool(KEY, GRAPH, **settings, visits=200)
    assert few.tied > 2 * pool.tied


SETTINGS = {"band": (4, 16), "pool": 20, "visits": 200}
BYTES_OF_ONE = {"pagerank": 24 * ITEMS, "walks": 24 * ITEMS + 3200}


@pytest.mark.parametrize("ranking", BYTES_OF_ONE)
def test_a_pool_depends_on_its_key_alone(ranking):
    settings = SETTINGS | {"ranking": ranking}
    pool = make_pool(KEY, GRAPH, **settings)
    chunked = make_pool(KEY, GRAPH, **settings, memory_bytes=11 * BYTES_OF_ONE[ranking])
    assert (pool.ids == chunked.ids).all()
    assert pool[1:] == chunked[1:]
    assert not (pool.ids == make_pool(jax.random.key(1), GRAPH, **settings).ids).all()


@pytest.mark.parametrize("ranking", BYTES_OF_ONE)
def test_isolated_items_have_an_empty_pool(ranking):
    pool = make_pool(KEY, GRAPH, rows=np.arange(1, 40), ranking=ranking, **SETTINGS)
    assert not members(pool, 39)
    assert not members(pool, 0), "not asked for"
    assert pool.filled == (np.asarray(pool.ids) >= 0).sum() / (39 * 20)
    nobody = make_pool(KEY, GRAPH, ranking=ranking, rows=np.zeros(0, int), visits=200)
    assert (np.asarray(nobody.ids) == -1).all()
    assert (nobody.filled, nobody.tied) == (0.0, 0.0)
    # 39 of 40 items are listed by a context, 38 others.
    assert (nobody.band, nobody.scaled) == ((15, 38), True)


def test_the_band_of_a_catalogue():
    paper = (2000, 5000)
    assert scaled_band(paper, 3_000_000) == paper
    assert scaled_band(paper, 50_000) == paper
    assert scaled_band(paper, 20_000) == (2000 * 2000 // 5000, 2000)
    assert scaled_band(paper, 600) == (24, 60)
    assert scaled_band(paper, 100) == (20, 50)
    assert scaled_band(paper, 10) == (3, 9)
    assert scaled_band(paper, 2) == (0, 1)


def test_a_pool_describes_itself():
    pool = HardPool(jnp.zeros((3, 64), jnp.int32), (800, 2000), 0.9832, 0.001, scaled=True)
    assert pool.describe() == (
        "hard negatives: ranks 800 to 2,000 (the paper's 2,000 to 5,000, scaled), 98.3% of 64 "
        "slots an item filled, 0.1% tied at the band's edge"
    )
    assert "scaled" not in pool._replace(scaled=False).describe()


def test_errors_say_what_was_expected():
    with pytest.raises(InputError, match=r"band: expected ranks up to the 38 other .* 4 to 39"):
        make_pool(KEY, GRAPH, band=(4, 39))
    with pytest.raises(InputError, match="band: expected ranks 0 <= first < end, got 5 and 5"):
        make_pool(KEY, GRAPH, band=(5, 5))
    with pytest.raises(InputError, match="num_items: hard negatives need 2 items or more, got 1"):
        scaled_band((0, 1), 1)
    with pytest.raises(InputError, match="rows: expected distinct items, got 3 twice"):
        make_pool(KEY, GRAPH, rows=np.array([3, 1, 3]))
    with pytest.raises(InputError, match=r"rows: expected rows in \[0, 40\)"):
        make_pool(KEY, GRAPH, rows=np.array([40]))
    for positives, message in (
        (csr_rows(np.array([0]), np.array([ITEMS]), 1), r"expected rows in \[0, 40\), .* 40 to 40"),
        (csr_rows(np.array([0]), np.array([1]), 41), "expected at most 40 rows, got 41"),
    ):
        with pytest.raises(InputError, match=f"positives: {message}"):
            make_pool(KEY, GRAPH, positives=positives)
    with pytest.raises(InputError, match=r"ranking: expected one of .*'walks'.*, got 'visits'"):
        make_pool(KEY, GRAPH, ranking="visits")  # pyright: ignore[reportArgumentType]
    with pytest.raises(InputError, match="count: expected at most the 4 items of a pool, got 5"):
        draw_hard(KEY, POOL, jnp.array([[0]]), 5)


POOL = jnp.array([[7, 3, 5, 9], [2, -1, -1, -1], [-1, -1, -1, -1], [1, 4, 6, -1]])
hard = jax.jit(draw_hard, static_argnums=3)


def test_draws_are_distinct_items_of_the_pool_in_random_order():
    drawn = np.asarray(hard(KEY, POOL, jnp.zeros((20_000, 1), jnp.int32), 3))
    assert (np.diff(np.sort(drawn, axis=1), axis=1) > 0).all()
    law = np.bincount([7, 3, 5, 9])
    # In every place alike: a curriculum counts the first ones only.
    for place in range(3):
        assert chi_square(np.bincount(drawn[:, place], minlength=10), law) > LEVEL


def test_a_short_pool_ends_in_padding():
    drawn = np.asarray(hard(KEY, POOL, jnp.array([[1], [2], [3], [-1]]), 4))
    assert drawn[0].tolist() == [2, -1, -1, -1]
    assert (drawn[[1, 3]] == -1).all()
    assert sorted(drawn[2].tolist()) == [-1, 1, 4, 6]
    assert drawn[2, 3] == -1


def test_a_bag_draws_from_the_pool_of_one_of_its_items():
    bags = jnp.tile(jnp.array([[0, -1, 3]]), (20_000, 1)).at[-1].set(-1)
    drawn = np.asarray(hard(KEY, POOL, bags, 2))
    assert (drawn[-1] == -1).all()
    drawn = drawn[:-1]
    first, third = np.isin(drawn, [7, 3, 5, 9]).all(axis=1), np.isin(drawn, [1, 4, 6]).all(axis=1)
    assert (first ^ third).all()
    assert chi_square([first.sum(), third.sum()], [1, 1]) > LEVEL
