"""Initial parameters set from a batch of items."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from pinsage_jax.config import settings_from
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.initial import standardised
from pinsage_jax.encoder.pinsage import init_params
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.training.preparation import prepare
from tests.pinsage.trained import pins_task, tiny

CONFIG = tiny(layers=2, dim=16, neighbors=5, folds=0, curriculum="none")


@pytest.fixture(scope="module", params=[0, 8], ids=["features", "structure"])
def prepared(request):
    return prepare(pins_task(), settings_from(CONFIG, structure=request.param))


@pytest.fixture(scope="module")
def plain(prepared):
    return init_params(jax.random.key(0), prepared.model)


def inputs_of(prepared, params):
    """What each input adds to h⁰, for all items in NumPy and float64."""
    params = jax.tree.map(lambda one: np.asarray(one, np.float64), params)
    added = {}
    for one in prepared.model.inputs:
        values = np.asarray(prepared.features[one.name])
        if one.kind == "bag":
            there = (values >= 0)[:, :, None]
            words = params[f"words_{one.name}"][np.maximum(values, 0)] * there
            values = words.sum(axis=1) / np.maximum(there.sum(axis=1), 1)
        added[one.name] = values @ params[f"map_{one.name}"]["kernel"]
    return added


def layers_of(prepared, params):
    """What goes into the ReLUs, layer by layer, for all items in NumPy and float64."""
    h = sum(inputs_of(prepared, params).values())
    params = jax.tree.map(lambda one: np.asarray(one, np.float64), params)
    ids, weights = np.asarray(prepared.table.ids), np.asarray(prepared.table.weights)
    h = h + params["bias"]
    before = {}
    for k in range(2):
        layer = params[f"message_{k}"]
        before[f"message_{k}"] = h @ layer["kernel"] + layer["bias"]
        messages = np.maximum(before[f"message_{k}"], 0)
        pooled = (messages[np.maximum(ids, 0)] * weights[:, :, None]).sum(axis=1)
        layer = params[f"combine_{k}"]
        both = np.concatenate([h, pooled], axis=1)
        before[f"combine_{k}"] = both @ layer["kernel"] + layer["bias"]
        h = np.maximum(before[f"combine_{k}"], 0)
        h = h / np.sqrt(np.square(h).sum(axis=1, keepdims=True) + 1e-12)
    layer = params["hidden"]
    return before | {"hidden": h @ layer["kernel"] + layer["bias"]}


def test_units_have_mean_0_and_deviation_1_over_the_batch(prepared, plain):
    # All items, so that every layer's nodes are all items too.
    items = np.arange(len(prepared.table.ids), dtype=np.int32)
    found = standardised(prepared.model, plain, prepared.features, prepared.table, items)
    for values in layers_of(prepared, found).values():
        np.testing.assert_allclose(values.mean(axis=0), 0, atol=1e-4)
        np.testing.assert_allclose(values.std(axis=0), 1, rtol=1e-3)
    vectors = embed_all(prepared.model, found, prepared.features, prepared.table).vectors
    # Beside a structure what is learnt begins at a hundredth of that mean square length.
    wanted = 0.01 if prepared.model.structure else 1
    learnt = vectors[:, : prepared.model.dim]
    assert np.square(learnt).sum(axis=1).mean() == pytest.approx(wanted, rel=1e-3)
    # The rest is as it was drawn, and what was given is not touched.
    assert set(found) == set(plain)
    maps = {f"map_{one.name}" for one in prepared.model.inputs}
    for name in set(plain) - {*layers_of(prepared, plain), *maps, "bias", "out"}:
        jax.tree.map(np.testing.assert_array_equal, found[name], plain[name])
    assert not np.array_equal(found["hidden"]["kernel"], plain["hidden"]["kernel"])


def test_every_input_has_an_equal_share_of_the_first_vectors(prepared, plain):
    """Whatever its width: words, looks, the degree and the structure."""
    items = np.arange(len(prepared.table.ids), dtype=np.int32)
    found = standardised(prepared.model, plain, prepared.features, prepared.table, items)
    added = inputs_of(prepared, found)
    assert len(added) == 3 + (prepared.model.structure > 0)
    for one in added.values():
        assert one.var(axis=0).mean() == pytest.approx(1 / len(added), rel=1e-3)
    # Each map is scaled as a whole, which turns no direction.
    for name, one in inputs_of(prepared, plain).items():
        factor = added[name].std() / one.std()
        np.testing.assert_allclose(added[name], one * factor, rtol=1e-3, atol=1e-5)


def test_a_part_of_the_items_stands_for_all(prepared, plain):
    items = np.arange(0, len(prepared.table.ids), 3, dtype=np.int32)
    found = standardised(prepared.model, plain, prepared.features, prepared.table, items)
    for values in layers_of(prepared, found).values():
        assert np.abs(values.mean(axis=0)).max() < 0.5
        assert np.abs(values.std(axis=0) - 1).max() < 0.5


def test_what_is_the_same_for_all_items_is_not_blown_up(prepared, plain):
    """No neighbours, and features that tell nothing."""
    same = {name: np.repeat(values[:1], 50, axis=0) for name, values in prepared.features.items()}
    nobody = NeighborTable(ids=jnp.full((50, 5), -1, jnp.int32), weights=jnp.zeros((50, 5)))
    found = standardised(prepared.model, plain, same, nobody, np.arange(50, dtype=np.int32))
    largest = max(float(np.abs(leaf).max()) for leaf in jax.tree.leaves(found))
    assert largest < 10
