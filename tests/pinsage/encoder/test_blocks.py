"""The part of the graph of a mini-batch: sets, capacities, and the vectors that all items have."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.blocks import (
    bounds,
    declared_capacities,
    embed_blocks,
    fits,
    make_blocks,
    mark_layers,
    take_features,
)
from pinsage_jax.encoder.pinsage import STRUCTURE, init_params, make_model
from pinsage_jax.encoder.sorted_layers import sort_layers
from tests.pinsage.worlds import (
    INPUTS,
    ITEMS,
    NEIGHBORS,
    PLAIN,
    STRUCTURED,
    random_table,
    structured_features,
)

LAYERS = 2
TABLE = random_table()
MOST = bounds(5, NEIGHBORS, LAYERS, ITEMS)
marked = jax.jit(functools.partial(mark_layers, layers=LAYERS, most=MOST))


@jax.jit
def both_ways(targets):
    """The blocks of a batch, and the targets' rows in them, by marks and by sorting."""
    found = [find(TABLE, targets, LAYERS, MOST) for find in (mark_layers, sort_layers)]
    blocks = [make_blocks(TABLE, one, MOST) for one in found]
    return [
        (one.nodes, one.layers, jnp.where(targets >= 0, one.place[jnp.maximum(targets, 0)], -1))
        for one in blocks
    ], [one.counts for one in found]


def sets_of(targets, ids):
    """S_0, …, S_K by definition."""
    layers = [{int(one) for one in targets if one >= 0}]
    for _ in range(LAYERS):
        last = layers[-1]
        layers.append(last | {int(v) for u in last for v in ids[u] if v >= 0})
    return layers[::-1]


@pytest.mark.parametrize("targets", [[3, 7, 3, -1, 39], [0, 1, 2, 4, 5], [-1] * 5, [39] * 5])
def test_each_layer_is_its_rows_and_their_neighbours_once(targets):
    marks = marked(TABLE, jnp.array(targets, jnp.int32))
    wanted = sets_of(targets, np.asarray(TABLE.ids))
    assert [set(np.flatnonzero(np.asarray(one))) for one in marks.layers] == wanted
    assert list(np.asarray(marks.counts)) == [len(one) for one in wanted]
    blocks, counts = both_ways(jnp.array(targets, jnp.int32))
    jax.tree.map(np.testing.assert_array_equal, *blocks)
    np.testing.assert_array_equal(*counts)


def test_bounds_hold_every_batch():
    assert bounds(5, 3, 2, 1000) == (80, 20, 5)
    assert bounds(5, 3, 2, 40) == (40, 20, 5)
    assert bounds(50, 3, 0, 40) == (40,)
    rng = np.random.default_rng(0)
    for _ in range(20):
        counts = np.asarray(marked(TABLE, jnp.asarray(rng.integers(0, ITEMS, 5), jnp.int32)).counts)
        assert (counts <= MOST).all()


def test_the_smallest_capacities_that_hold_the_batch_are_taken():
    capacities = ((10, 5, 2), (20, 10, 4), (40, 20, 5))

    def tier(*counts):
        return int(fits(jnp.array(counts, jnp.int32), capacities))

    assert tier(10, 5, 2) == 0
    assert tier(11, 5, 2) == 1  # one layer too large is enough
    assert tier(3, 3, 3) == 1
    assert tier(40, 20, 5) == 2
    assert tier(21, 1, 1) == 2


def test_capacities_are_declared_from_trials():
    most = (100_000, 16_000, 1_500)
    few = [np.array([9_000, 3_000, 400]), np.array([11_000, 3_000, 400])]
    many = [np.array([30_000, 9_000, 900]), np.array([30_000, 9_000, 1_500])]
    # The largest, four deviations or 2 % more, in steps of 256, within bounds.
    assert declared_capacities([few, many], most) == (
        (15_104, 3_072, 512),
        (30_720, 9_216, 1_500),
        most,
    )
    assert declared_capacities([many, many], most) == ((30_720, 9_216, 1_500), most)
    assert declared_capacities([[np.array([95_000, 15_000, 1_400])]], most) == (most,)


# The wider one takes the first layer's messages from the features in one product.
@pytest.mark.parametrize(("dim", "spare"), [(6, 0), (32, 7)])
@pytest.mark.parametrize("structure", [0, 3])
def test_a_mini_batch_gives_the_vectors_of_all_items(dim, spare, structure):
    changes = {"dim": dim, "word_dim": 4, "layers": LAYERS, "structure": structure}
    config = dataclasses.replace(PLAIN, **changes)
    model = make_model(STRUCTURED if structure else INPUTS, config)
    params = init_params(jax.random.key(3), model)
    features = structured_features()
    everything = embed_all(model, params, features, TABLE, chunk=16).vectors
    targets = jnp.array([3, 39, 3, 21, -1], jnp.int32)
    marks = marked(TABLE, targets)
    # Just enough room, and more than enough: padding must change nothing.
    sizes = tuple(int(count) + spare for count in np.asarray(marks.counts))

    @jax.jit
    def embedded(params):
        blocks = make_blocks(TABLE, marks, sizes)
        taken = take_features(jax.tree.map(jnp.asarray, features), blocks.nodes)
        return embed_blocks(model, params, taken, blocks.layers), blocks.place

    z, place = embedded(params)
    assert z.shape[1] == dim + structure
    for item in (3, 39, 21):
        np.testing.assert_allclose(z[place[item]], everything[item], atol=1e-6)
        if structure:
            own = params["structure_gain"] * features[STRUCTURE][item]
            np.testing.assert_allclose(z[place[item], dim:], own, rtol=1e-6)


def test_without_layers_a_mini_batch_has_its_structure_too():
    changes = {"dim": 6, "word_dim": 4, "layers": 0, "pooling": "none", "structure": 3}
    model = make_model(STRUCTURED, dataclasses.replace(PLAIN, **changes))
    params = init_params(jax.random.key(3), model)
    features = structured_features()
    nodes = jnp.array([5, 39, 2])
    taken = take_features(jax.tree.map(jnp.asarray, features), nodes)
    everything = embed_all(model, params, features, TABLE, chunk=16).vectors
    found = embed_blocks(model, params, taken, ())
    np.testing.assert_allclose(found, everything[np.asarray(nodes)], atol=1e-6)
