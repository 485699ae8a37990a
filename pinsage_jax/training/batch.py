"""What a training step sees: a batch, its negatives, and the items as the step shows them."""

from __future__ import annotations

import dataclasses
from typing import NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int, PRNGKey, Scalar
from lightgcn_jax.training.weighted_draws import ItemWeights
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.pinsage import Features
from pinsage_jax.features.schema import LOG_DEGREE
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.negatives.hard import draw_hard_of_bags
from pinsage_jax.negatives.shared import draw_shared_negatives


class Batch(NamedTuple):
    """Query–positive pairs.

    Attributes:
        queries: ``int32[B, n]`` item rows; −1 pads.
        positives: ``int32[B]``.
        weights: ``float32[B]``; 0 for a row that fills up the last batch.
    """

    queries: Int[Array, "batch items"]
    positives: Ids
    weights: Float[Array, " batch"]


class Targets(NamedTuple):
    """All items whose vectors a step scores.

    Attributes:
        queries: ``int32[B, n]``.
        positives: ``int32[B]``.
        negatives: ``int32[M]`` shared, or ``int32[B, M]`` separate.
        hard: ``int32[B, H]``; −1 where there is none, or none counts in this epoch.
    """

    queries: Int[Array, "batch items"]
    positives: Ids
    negatives: Int[Array, "..."]
    hard: Int[Array, "batch hard"]

    @property
    def ids(self) -> Ids:
        """All of them in one row, repeated as they come."""
        return jnp.concatenate([part.reshape(-1) for part in self])


@flax.struct.dataclass
class ItemArrays:
    """What a step reads of the items; arguments of the compiled program.

    Attributes:
        features: of all R items, by input.
        table: their neighbours.
        training_items: ``int32[n]``, rows that may be negatives.
        law: weights of those items by which they are drawn; None for uniform draws.
        hard_pool: ``int32[R, P]``; None without hard negatives.
        degree_of_none: ``float32[]``, the encoded log-degree of an item without contexts; None
            where the encoder does not see degrees.
    """

    features: Features
    table: NeighborTable
    training_items: Ids
    law: ItemWeights | None = None
    hard_pool: Int[Array, "items pool"] | None = None
    degree_of_none: Scalar | None = None


def num_targets(config: PinSageConfig, query_items: int) -> int:
    """Items that a step embeds at most, repetitions counted."""
    rows = config.batch_size if config.negative_choice == "separate" else 1
    own = config.batch_size * (query_items + 1 + config.hard_negatives)
    return own + rows * config.negatives


def draw_targets(
    key: PRNGKey, batch: Batch, items: ItemArrays, active: Scalar, config: PinSageConfig
) -> Targets:
    """The batch and its negatives.

    Args:
        active: hard negatives of a query that count in this epoch.
    """
    shared_key, hard_key = jax.random.split(key)
    size = len(batch.positives)
    rows = size if config.negative_choice == "separate" else 1
    negatives = draw_shared_negatives(
        shared_key, rows * config.negatives, items.training_items, items.law
    )
    if config.negative_choice == "separate":
        negatives = negatives.reshape(rows, config.negatives)
    if items.hard_pool is None or not config.hard_negatives:
        hard = jnp.full((size, 0), -1, jnp.int32)
    else:
        hard = draw_hard_of_bags(hard_key, items.hard_pool, batch.queries, config.hard_negatives)
        counts = jnp.arange(config.hard_negatives) < active
        # What does not count yet takes no room in the blocks either.
        hard = jnp.where(counts[None, :], hard, -1)
    return Targets(batch.queries, batch.positives, negatives, hard)


def training_view(
    key: PRNGKey, targets: Targets, items: ItemArrays, config: PinSageConfig
) -> ItemArrays:
    """The items as this step shows them: some without their contexts, targets hidden from each
    other."""
    table, features = items.table, items.features
    if config.mask_targets:
        table = without_targets(table, targets.queries, targets.positives)
    if config.drop_contexts:
        lost = jax.random.bernoulli(key, config.drop_contexts, (table.ids.shape[0],))
        table = without_contexts(table, lost)
        if items.degree_of_none is not None:
            degrees = features[LOG_DEGREE]
            hidden = jnp.where(lost[:, None], items.degree_of_none, degrees)
            features = features | {LOG_DEGREE: hidden}
    return dataclasses.replace(items, table=table, features=features)


def without_targets(
    table: NeighborTable, queries: Int[Array, "batch items"], positives: Int[Array, " batch"]
) -> NeighborTable:
    """The table in which a query's items and its positive are not each other's neighbours.

    An item that stands in several pairs of the batch loses one of its partners, the pair's that
    stands last. The weights left over add up to 1 again.
    """
    num_items = table.ids.shape[0]
    partner = jnp.full(num_items, -2, jnp.int32)
    owners = jnp.broadcast_to(positives[:, None], queries.shape)
    drop = jnp.where(queries >= 0, queries, num_items)
    partner = partner.at[drop].set(owners, mode="drop")
    partner = partner.at[positives].set(queries[:, 0], mode="drop")
    weights = jnp.where(table.ids == partner[:, None], 0.0, table.weights)
    total = weights.sum(axis=1, keepdims=True)
    weights = weights / jnp.where(total > 0, total, 1.0)
    return NeighborTable(ids=jnp.where(weights > 0, table.ids, -1), weights=weights)


def without_contexts(table: NeighborTable, lost: Array) -> NeighborTable:
    """The table in which the items of ``lost bool[R]`` have no neighbours."""
    return NeighborTable(
        ids=jnp.where(lost[:, None], -1, table.ids),
        weights=jnp.where(lost[:, None], 0.0, table.weights),
    )


class HostItemArrays(NamedTuple):
    """What batches are gathered from: :class:`pinsage_jax.training.step.ItemArrays` in NumPy.

    Attributes:
        law: ``float64[n]``, probabilities of the training items; None for uniform draws.
    """

    features: dict[str, np.ndarray]
    ids: np.ndarray
    weights: np.ndarray
    training_items: np.ndarray
    law: np.ndarray | None = None
    hard_pool: np.ndarray | None = None
    degree_of_none: float | None = None
