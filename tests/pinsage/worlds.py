"""Small items with features and neighbours, shared by the tests."""

import jax.numpy as jnp
import numpy as np

from lightgcn_jax.training.weighted_draws import ItemWeights
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.pinsage import STRUCTURE
from pinsage_jax.features.inputs import Input
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.training.batch import ItemArrays

ITEMS, NEIGHBORS = 40, 3
# The paper's settings, for tests whose subject is none of what the defaults add to them.
PLAIN = PinSageConfig(
    structure=0,
    folds=0,
    fan=1,
    loss="max-margin",
    temperature=0.3,
    curriculum="paper",
    neighbors=NEIGHBORS,
)
INPUTS = (
    Input("looks", "dense", 5, 5),
    Input("name", "bag", 11, 4),
    Input("log_degree", "dense", 1, 1),
)
# The same and the structure, of three entries.
STRUCTURED = (*INPUTS, Input.dense(STRUCTURE, 3))


def random_features(seed=0, items=ITEMS):
    rng = np.random.default_rng(seed)
    names = rng.integers(0, 11, (items, 4)).astype(np.int32)
    names[rng.random((items, 4)) < 0.4] = -1
    names[0] = -1  # an item without words
    return {
        "looks": rng.normal(size=(items, 5)).astype(np.float32),
        "name": names,
        "log_degree": rng.normal(size=(items, 1)).astype(np.float32),
    }


def structured_features():
    """The features of ``STRUCTURED``; the last item has no structure."""
    values = np.random.default_rng(7).normal(size=(ITEMS, 3)).astype(np.float32)
    values[-1] = 0
    return random_features() | {STRUCTURE: values}


def random_table(seed=0, items=ITEMS, neighbors=NEIGHBORS):
    """Distinct neighbours, never the item itself; the last item has none, others may have fewer."""
    rng = np.random.default_rng(seed)
    ids = np.stack(
        [rng.permutation(np.delete(np.arange(items), row))[:neighbors] for row in range(items)]
    ).astype(np.int32)
    missing = np.arange(neighbors)[None, :] >= rng.integers(1, neighbors + 1, items)[:, None]
    missing[-1] = True
    ids[missing] = -1
    weights = np.where(missing, 0, rng.random((items, neighbors)) + 0.1)
    total = weights.sum(axis=1, keepdims=True)
    weights = weights / np.where(total > 0, total, 1)
    return NeighborTable(ids=jnp.asarray(ids), weights=jnp.asarray(weights, jnp.float32))


# Item 10 + i is drawn with probability (i + 1) / 210.
LAW = np.arange(1, 21) / 210


def by_degree(draws):
    """The arrays of so many draws by that law, for :func:`item_arrays`."""
    weights = np.arange(1, 21, dtype=np.int32)
    law = ItemWeights(
        jnp.asarray(weights), jnp.asarray(np.cumsum(weights)), jnp.zeros(1, jnp.int32)
    )
    logs = np.full(ITEMS, -np.inf, np.float32)
    logs[10:30] = np.log(draws * LAW)
    return {"law": law, "log_draws": jnp.asarray(logs)}


def item_arrays(**changes):
    """What a training step reads of them: rows 10 to 29 may be negatives."""
    rng = np.random.default_rng(1)
    given = ItemArrays(
        features={name: jnp.asarray(values) for name, values in random_features().items()},
        table=random_table(),
        training_items=jnp.arange(10, 30, dtype=jnp.int32),
        hard_pool=jnp.asarray(rng.integers(0, ITEMS, (ITEMS, 8)), jnp.int32),
        degree_of_none=jnp.float32(-3.0),
    )
    return given.replace(**changes)
