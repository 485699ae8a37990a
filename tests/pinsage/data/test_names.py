"""What is made of items does not depend on how they and their contexts are called."""

import numpy as np
import pytest

from lightgcn_jax.data import Interactions
from pinsage_jax.data.items import ItemData
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.tasks.holdout import cooccurrence_task, time_task

CONTEXTS, ITEMS, EVENTS = 40, 30, 260


def written(seed):
    """One log with a feature, labels and pairs, in other words and another order for each seed."""
    rng = np.random.default_rng(0)
    contexts = rng.integers(0, CONTEXTS, EVENTS)
    items = (ITEMS * rng.random(EVENTS) ** 1.5).astype(int)
    items[:ITEMS] = np.arange(ITEMS)
    times = rng.integers(0, 50, EVENTS)
    price, kind = rng.random(ITEMS), rng.integers(0, 3, ITEMS).astype(np.int32)
    pairs = np.stack([rng.permutation(ITEMS)[:2] for _ in range(12)]).T

    own = np.random.default_rng(seed)
    context_names, item_names = own.permutation(CONTEXTS), own.permutation(ITEMS)
    order = own.permutation(EVENTS)
    interactions = Interactions.from_arrays(
        context_names[contexts][order],
        [f"item {name}" for name in item_names[items][order]],
        timestamps=times[order],
    )
    rows = interactions.items.rows([f"item {name}" for name in item_names])
    old = np.argsort(rows)
    data = ItemData(
        "shop",
        interactions,
        FeatureTable.from_mapping({"price": price[old]}),
        {"kind": kind[old]},
        (rows[pairs[0]], rows[pairs[1]]),
    )
    return data, price, item_names


def test_rows_features_labels_and_pairs_are_the_same():
    first = written(1)[0].in_canonical_order()
    for seed in (2, 3):
        data, price, item_names = written(seed)
        moved = data.in_canonical_order()
        for name in ("user_rows", "item_rows", "timestamps"):
            np.testing.assert_array_equal(
                getattr(moved.interactions, name), getattr(first.interactions, name)
            )
        np.testing.assert_array_equal(moved.labels["kind"], first.labels["kind"])
        np.testing.assert_array_equal(moved.pairs, first.pairs)
        names = [int(one.removeprefix("item ")) for one in moved.interactions.items.ids]
        assert names != sorted(names)
        own = price[np.argsort(item_names)[names]]
        np.testing.assert_allclose(moved.features.columns["price"].values, own, rtol=1e-6)


@pytest.mark.parametrize("make", [cooccurrence_task, time_task])
def test_what_is_held_out_is_the_same(make):
    first, second = (make(written(seed)[0].in_canonical_order()) for seed in (1, 2))
    for part in ("valid", "test"):
        for name in ("queries", "relevant", "seen"):
            one, two = (getattr(getattr(task, part), name) for task in (first, second))
            columns = [getattr(each, "columns", each) for each in (one, two)]
            np.testing.assert_array_equal(*columns)
