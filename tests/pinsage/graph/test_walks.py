"""Walks are held against the exact law of a walk with restart, in dense float64."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.walks import WalkConfig, walk
from tests.lightgcn.laws import LEVEL, chi_square

# Item 0 stands in context 0 twice, item 5 is isolated, context 3 holds one item alone and context
# 4 none.
ITEMS = np.array([0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4])
CONTEXTS = np.array([0, 0, 1, 0, 2, 1, 2, 2, 3, 2, 0])
NUM_ITEMS, NUM_CONTEXTS = 6, 5
SEEDS = np.array([0, 3, 5, 4], np.int32)
CONFIG = WalkConfig(walks=20_000, length=4, restart=0.3)
SMALL = WalkConfig(walks=3, length=4)
FAN = WalkConfig(walks=20_000, length=3, restart=0.3, fan=3)


def graph_of(**settings):
    return ItemGraph.from_pairs(
        ITEMS, CONTEXTS, num_items=NUM_ITEMS, num_contexts=NUM_CONTEXTS, **settings
    )


def step_matrix():
    """P = D_I⁻¹ A D_C⁻¹ Aᵀ, the law of one traversal; the isolated item's row is 0."""
    edges = np.zeros((NUM_ITEMS, NUM_CONTEXTS))
    np.add.at(edges, (ITEMS, CONTEXTS), 1.0)
    of_item, of_context = edges.sum(axis=1, keepdims=True), edges.sum(axis=0)
    to_context = np.divide(edges, of_item, out=np.zeros_like(edges), where=of_item > 0)
    to_item = np.divide(edges, of_context, out=np.zeros_like(edges), where=of_context > 0).T
    return to_context @ to_item


def laws(seed, restart):
    """The law of the visit after each traversal, ``[L, I]``."""
    step, home = step_matrix(), np.eye(NUM_ITEMS)[seed]
    visits = [home @ step]
    while len(visits) < CONFIG.length:
        visits.append(((1 - restart) * visits[-1] + restart * home) @ step)
    return np.array(visits)


def walked(seeds=SEEDS, config=CONFIG, key=3):
    """Visits by seed, traversal and walker."""
    visits = walk(jax.random.key(key), graph_of(), jnp.asarray(seeds), config=config)
    return np.asarray(visits).reshape(len(seeds), config.length, config.walks)


def pair_counts(first, second):
    return np.bincount((first * NUM_ITEMS + second).ravel(), minlength=NUM_ITEMS**2)


def test_visits_follow_the_powers_of_the_step_matrix():
    visits = walked()
    for row, seed in enumerate(SEEDS):
        if seed == 5:
            continue
        for found, law in zip(visits[row], laws(seed, CONFIG.restart), strict=True):
            assert chi_square(np.bincount(found, minlength=NUM_ITEMS), law) > LEVEL


def test_traversals_are_a_chain_that_starts_again_at_random():
    """The joint law of two visits in a row is law(x) ((1 − r) P[x] + r P[seed])."""
    visits = walked()
    step = step_matrix()
    for row, seed in ((0, 0), (1, 3), (3, 4)):
        law = laws(seed, CONFIG.restart)
        after = (1 - CONFIG.restart) * step + CONFIG.restart * step[seed][None, :]
        for t in range(CONFIG.length - 1):
            joint = law[t][:, None] * after
            counts = pair_counts(visits[row, t], visits[row, t + 1])
            assert chi_square(counts, joint.ravel()) > LEVEL


def test_walkers_seeds_and_keys_are_independent():
    """Their joint law is the product: neighbours in the batch, in a row and among the keys."""
    visits, other_key = walked(), walked(key=4)
    first, second = (laws(seed, CONFIG.restart) for seed in (0, 3))
    for t in range(CONFIG.length):
        same = np.outer(first[t], first[t]).ravel()
        here = visits[0, t]
        assert chi_square(pair_counts(here[::2], here[1::2]), same) > LEVEL
        assert chi_square(pair_counts(here[: len(here) // 2], here[len(here) // 2 :]), same) > LEVEL
        assert chi_square(pair_counts(here, other_key[0, t]), same) > LEVEL
        across = np.outer(first[t], second[t]).ravel()
        assert chi_square(pair_counts(here, visits[1, t]), across) > LEVEL


def test_consecutive_keys_and_rows_cover_a_ring_evenly():
    """Many seeds of few walkers: one big context of all items, where every draw is uniform."""
    items = np.arange(997)
    graph = ItemGraph.from_pairs(items, np.zeros_like(items), num_items=997, num_contexts=1)
    config = WalkConfig(walks=2, length=3)
    keys = jax.random.split(jax.random.key(0), 20)
    visits = jax.vmap(lambda key: walk(key, graph, jnp.asarray(items), config=config))(keys)
    assert chi_square(np.bincount(np.asarray(visits).ravel(), minlength=997), np.ones(997)) > LEVEL
    # How far a visit is from its seed, and from the walker's next visit, is uniform too.
    visits = np.asarray(visits).reshape(20, 997, 3, 2)
    from_seed = (visits - items[None, :, None, None]) % 997
    assert chi_square(np.bincount(from_seed.ravel(), minlength=997), np.ones(997)) > LEVEL
    for ahead in (visits[:, :, 1] - visits[:, :, 0], visits[..., 1] - visits[..., 0]):
        assert chi_square(np.bincount((ahead % 997).ravel(), minlength=997), np.ones(997)) > LEVEL


def test_without_restart_visits_follow_the_plain_powers():
    config = WalkConfig(walks=CONFIG.walks, length=CONFIG.length, restart=0.0)
    visits = walked(config=config)
    for found, law in zip(visits[0], laws(0, 0.0), strict=True):
        assert chi_square(np.bincount(found, minlength=NUM_ITEMS), law) > LEVEL


def test_isolated_items_and_padding_visit_nothing():
    assert (walked()[2] == -1).all()
    visits = walked(seeds=np.array([-1, 0, -1, 5], np.int32), config=SMALL)
    assert (visits[[0, 2, 3]] == -1).all()
    assert (visits[1] >= 0).all()


def test_a_context_that_lists_nobody_sends_the_walker_home():
    """A new item stands in an empty context and in one of item 3 alone: each is half the visits."""
    graph = graph_of(item_slack=1, edge_slack=4).with_items([6], [[4, 3]])
    visits = np.asarray(walk(jax.random.key(2), graph, jnp.array([6]), config=CONFIG))
    visits = visits.reshape(CONFIG.length, CONFIG.walks)
    assert chi_square([(visits[0] == -1).sum(), (visits[0] == 3).sum()], [1, 1]) > LEVEL
    # It is home again, and so it chooses anew: to nowhere or to 3, whose other context is 2.
    after = visits[1][visits[0] == -1]
    assert chi_square([(after == -1).sum(), (after == 3).sum()], [1, 1]) > LEVEL
    assert not (visits == 6).any()


def test_an_item_alone_in_its_context_visits_itself():
    graph = ItemGraph.from_pairs([0], [0], num_items=1, num_contexts=1)
    visits = walk(jax.random.key(0), graph, jnp.array([0]), config=WalkConfig(walks=3, length=2))
    assert visits.tolist() == [[0] * 6]


def test_a_graph_without_edges_visits_nothing():
    graph = ItemGraph.from_pairs(
        np.zeros(0, int), np.zeros(0, int), num_items=2, num_contexts=0, edge_slack=3
    )
    visits = walk(jax.random.key(0), graph, jnp.array([0, 1]), config=WalkConfig(walks=3, length=2))
    assert visits.tolist() == [[-1] * 6] * 2


def test_a_seeds_walks_depend_on_the_key_and_the_seed_alone():
    together = walked(np.array([0, 3, 5, 4], np.int32), SMALL)
    again = walked(np.array([4, 4, 0, 1], np.int32), SMALL)
    assert (again[0] == together[3]).all()
    assert (again[1] == together[3]).all()
    assert (again[2] == together[0]).all()
    # An odd number of walkers takes another way through the tables.
    odd = walked(np.array([3], np.int32), SMALL)
    assert (odd[0] == together[1]).all()
    assert (walked(np.array([0, 3, 5, 4], np.int32), SMALL, key=9) != together).any()


def fans(graph, seeds, config, key=3):
    """Visits by seed, traversal, walker and place in the fan."""
    visits = walk(jax.random.key(key), graph, jnp.asarray(seeds), config=config)
    return np.asarray(visits).reshape(len(seeds), config.length, config.walks, config.fan)


def test_every_visit_of_a_fan_follows_the_law_of_a_single_one():
    """One place of each fan, drawn by chance: the draws of a fan depend on each other."""
    visits = fans(graph_of(), SEEDS, FAN)
    places = np.random.default_rng(0).integers(0, FAN.fan, (*visits.shape[:3], 1))
    found = np.take_along_axis(visits, places, axis=3)[..., 0]
    for row, seed in enumerate(SEEDS):
        if seed == 5:
            assert (visits[row] == -1).all()
            continue
        for one, law in zip(found[row], laws(seed, FAN.restart), strict=False):
            assert chi_square(np.bincount(one, minlength=NUM_ITEMS), law) > LEVEL


# Longer than the fan and shorter, with and without a common divisor, and a fan that 2³² is no
# multiple of.
@pytest.mark.parametrize(("size", "fan"), [(37, 16), (7, 16), (8, 16), (24, 16), (5, 3), (2, 7)])
def test_a_fan_cuts_a_context_into_equal_parts(size, fan):
    """Place i reads the list at share (i + U) / F of its length, with one U for the whole fan."""
    items = np.arange(size)
    graph = ItemGraph.from_pairs(items, np.zeros_like(items), num_items=size, num_contexts=1)
    config = WalkConfig(walks=30_000, length=1, fan=fan)
    visits = fans(graph, [0], config)[0, 0]
    assert (np.diff(visits, axis=1) >= 0).all()
    counts = (visits[:, :, None] == items).sum(axis=1)
    least, more = divmod(fan, size)
    assert set(np.unique(counts)) <= {least, least + 1}
    # An item is expected F / |c| times, so in this share of the traversals it comes once more.
    for often in (counts == least + 1).sum(axis=0):
        assert chi_square([often, len(visits) - often], [more, size - more]) > LEVEL
    shares = np.arange(size + 1) / size
    for place in range(fan):
        inside = np.clip(shares * fan - place, 0, 1)
        assert chi_square(np.bincount(visits[:, place], minlength=size), np.diff(inside)) > LEVEL


def test_traversals_and_walkers_spread_their_fans_independently():
    items = np.arange(6)
    graph = ItemGraph.from_pairs(items, np.zeros_like(items), num_items=6, num_contexts=1)
    visits = fans(graph, [0, 1], WalkConfig(walks=20_000, length=2, fan=4))[..., 0]
    # The first of four draws comes from the first quarter of six items: 0 twice as often as 1.
    both = np.outer([2, 1], [2, 1]).ravel()
    for one, other in (
        (visits[0, 0], visits[0, 1]),
        (visits[0, 0], visits[1, 0]),
        (visits[:, :, ::2], visits[:, :, 1::2]),
    ):
        assert chi_square(np.bincount((one * 2 + other).ravel(), minlength=4), both) > LEVEL


def test_a_fan_leaves_the_walker_s_way_as_it_was():
    """A fan reads a short context whole, and it is one that the walker's own visit came from."""
    rng = np.random.default_rng(5)
    contexts = [np.sort(rng.permutation(60)[: rng.integers(2, 5)]) for _ in range(40)]
    graph = ItemGraph.from_pairs(
        np.concatenate(contexts),
        np.repeat(np.arange(40), [len(one) for one in contexts]),
        num_items=60,
        num_contexts=40,
    )
    held = {tuple(one) for one in contexts}
    seeds = [int(one[0]) for one in contexts[:8]]
    settings = {"walks": 5, "length": 6, "restart": 0.2}
    alone = fans(graph, seeds, WalkConfig(**settings))[..., 0]
    spread = fans(graph, seeds, WalkConfig(**settings, fan=4))
    homes = np.broadcast_to(np.array(seeds)[:, None], alone[:, 0].shape)
    for step in range(6):
        for at, fan in np.ndenumerate(spread[:, step, :, 0]):
            assert fan >= 0
            context = set(spread[:, step][at])
            assert tuple(sorted(context)) in held
            assert alone[:, step][at] in context
            before = {homes[at]} | ({alone[:, step - 1][at]} if step else set())
            assert before & context


def test_new_items_do_not_compile_anything_again():
    graph = graph_of(item_slack=2, edge_slack=4)
    config = WalkConfig(walks=5, length=2)
    traces = []

    @jax.jit
    def visits_of(graph, seeds):
        traces.append(1)
        return walk(jax.random.key(0), graph, seeds, config=config)

    assert (visits_of(graph, jnp.array([6, 0])) == -1).sum() == 10
    grown = graph.with_items([6], [[2, 2]])
    visits = np.asarray(visits_of(grown, jnp.array([6, 0])))
    # From context 2, items 1, 2, 3 and 4 come first.
    assert set(visits[0, : config.walks]) <= {1, 2, 3, 4}
    assert (visits >= 0).all()
    assert len(traces) == 1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"restart": 1.0}, r"restart: expected a probability in \[0, 1\), got 1.0"),
        ({"restart": -0.1}, r"restart: expected a probability in \[0, 1\), got -0.1"),
        ({"restart": float("nan")}, "restart: expected a probability"),
        ({"walks": 0}, "walks: expected an integer ≥ 1, got 0"),
        ({"length": 2.5}, "length: expected an integer ≥ 1, got 2.5"),
        ({"fan": 0}, "fan: expected an integer ≥ 1, got 0"),
    ],
)
def test_settings_that_do_not_fit(settings, message):
    with pytest.raises(InputError, match=message):
        WalkConfig(**settings)
    assert WalkConfig().visits == 500
    assert WalkConfig(fan=16).visits == 8_000
