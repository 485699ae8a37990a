"""What a training step sees: a batch, its negatives, and its view of the items."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Bool, Float, Ids, Int, PRNGKey, Scalar
from lightgcn_jax.diffusion import Operator
from lightgcn_jax.training.weighted_draws import ItemWeights
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.blocks import (
    Capacities,
    pooling_matrix,
    take_features,
    whole_layers,
)
from pinsage_jax.encoder.pinsage import STRUCTURE, Features, Masked
from pinsage_jax.features.schema import LOG_DEGREE
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.negatives.hard import draw_hard
from pinsage_jax.negatives.shared import draw_shared_negatives

# Layers of all items from which on there is a convolution of all items.
_LEAST_WHOLE = 2


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
        queries: ``int32[B, n]``, −1 pads.
        positives: ``int32[B]``.
        negatives: ``int32[M]`` shared ones, or ``int32[B, M]`` separate ones.
        hard: ``int32[B, H]`` hard negatives; −1 where a query has none, or none counts in this
            epoch.
    """

    queries: Int[Array, "batch items"]
    positives: Ids
    negatives: Int[Array, "..."]
    hard: Int[Array, "batch hard"]

    @property
    def ids(self) -> Ids:
        """All of them in one row, with repetitions."""
        return jnp.concatenate([part.reshape(-1) for part in self])


@flax.struct.dataclass
class ItemArrays:
    """The arrays of R items that a step reads: arguments of the compiled program.

    Attributes:
        features: encoded, of all items, by input.
        table: the items' neighbours.
        training_items: ``int32[n]``, rows that may be negatives.
        law: the weights by which these items are drawn; None for uniform draws.
        log_draws: ``float32[R]``, the logarithm of how often each item is expected among the
            negatives of a batch, −∞ for an item that is never drawn; None for uniform draws.
        hard_pool: ``int32[R, P]``, the hard negatives of each item; None without any.
        degree_of_none: ``float32[]``, the encoded log-degree of an item without contexts; None
            where the encoder does not see degrees.
        pooling: R×R, by which all items pool their neighbours' messages; None where a batch reads
            only some of them.
    """

    features: dict[str, Array]
    table: NeighborTable
    training_items: Ids
    law: ItemWeights | None = None
    log_draws: Float[Array, " items"] | None = None
    hard_pool: Int[Array, "items pool"] | None = None
    degree_of_none: Scalar | None = None
    pooling: Operator | None = None


class HostItemArrays(NamedTuple):
    """The arrays that batches are gathered from on the host: :class:`ItemArrays` in NumPy.

    Attributes:
        features: encoded, of all items, by input.
        ids: ``int32[R, T]``, the items' neighbours.
        weights: ``float32[R, T]``, their importance.
        training_items: ``int32[n]``, rows that may be negatives.
        law: ``float64[n]``, probabilities of the training items; None for uniform draws.
        log_draws: ``float32[R]``, as :class:`ItemArrays` has it.
        hard_pool: ``int32[R, P]``, the hard negatives of each item; None without any.
        degree_of_none: the encoded log-degree of an item without contexts; None where the encoder
            does not see degrees.
    """

    features: dict[str, np.ndarray]
    ids: np.ndarray
    weights: np.ndarray
    training_items: np.ndarray
    law: np.ndarray | None = None
    log_draws: np.ndarray | None = None
    hard_pool: np.ndarray | None = None
    degree_of_none: float | None = None


def of_none(items: ItemArrays | HostItemArrays) -> dict[str, Any]:
    """List the inputs that an item without contexts has another value of, and that value.

    Args:
        items: the arrays of the items.
    """
    values = {} if items.degree_of_none is None else {LOG_DEGREE: items.degree_of_none}
    return values | ({STRUCTURE: 0.0} if STRUCTURE in items.features else {})


def num_targets(config: PinSageConfig, query_items: int, parts: int = 1) -> int:
    """Count the items that a device embeds at most in a step, with repetitions.

    Args:
        config: the settings.
        query_items: n, how many items a query has at most.
        parts: among how many devices the batch is divided.
    """
    rows, negatives = -(-config.batch_size // parts), -(-config.negatives // parts)
    if config.negative_choice == "separate":
        negatives = rows * config.negatives
    return rows * (query_items + 1 + config.hard_negatives) + negatives


def draw_targets(
    key: PRNGKey, batch: Batch, items: ItemArrays, active: Scalar, config: PinSageConfig
) -> Targets:
    """Draw the negatives of a batch.

    Args:
        key: consumed.
        batch: the pairs.
        items: where negatives are drawn from.
        active: ``int32[]``, how many hard negatives of a query count in this epoch.
        config: the settings.
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
        hard = draw_hard(hard_key, items.hard_pool, batch.queries, config.hard_negatives)
        counts = jnp.arange(config.hard_negatives) < active
        # What does not count yet takes no room in the blocks either.
        hard = jnp.where(counts[None, :], hard, -1)
    return Targets(batch.queries, batch.positives, negatives, hard)


def log_expected_draws(targets: Targets, log_draws: Any, config: PinSageConfig) -> Any:
    """Look up the logarithm of how often each negative is expected among the draws of a batch.

    A softmax that subtracts it from the negatives' scores estimates the sum over all items that can
    be drawn, whatever the law of the draws; without it a law by degree would cancel what the scores
    learn of popularity.

    Args:
        targets: their shared or separate negatives are looked up; behind them the positives, where
            these are negatives of each other.
        log_draws: as :class:`ItemArrays` has it.
        config: the settings.

    Returns:
        ``float32[M]``, ``[B, M]`` or, with the positives, ``[M + B]``; None where no correction is
        known or wanted: uniform draws, negatives chosen by distance, and losses other than softmax.
    """
    corrected = config.loss == "softmax" and config.negative_choice != "distance-weighted"
    if log_draws is None or not corrected:
        return None
    expected = log_draws[targets.negatives]
    if config.in_batch:
        # NumPy on the host, JAX within a step.
        joined = (log_draws[part] for part in (targets.negatives, targets.positives))
        expected = (jnp if isinstance(log_draws, jax.Array) else np).concatenate([*joined])
    return expected


def pooling_of(
    table: NeighborTable, config: PinSageConfig, capacities: Sequence[Capacities]
) -> Operator | None:
    """Make the matrix of all items' neighbours, where every batch reads nearly all of them.

    Args:
        table: the items' neighbours.
        config: the settings.
        capacities: those that the run declared.

    Returns:
        R×R; None where a step has to look for its items, hides some neighbours of some items, or
        takes the largest message.
    """
    fixed = config.pooling in ("importance", "mean") and not config.hides_targets
    if not fixed or whole_layers(capacities, table.num_rows) < _LEAST_WHOLE:
        return None
    return pooling_matrix(table, config.pooling)


class Partners(NamedTuple):
    """The items of a batch that must not see each other: a query's items and its positive.

    An item may stand in several pairs. Of the pairs whose query holds it the last one counts, and
    so does the last one of the pairs whose positive it is.

    Attributes:
        queries: ``int32[B + 1, n]``, −1 pads; the first row, the pair of no item, is −1.
        positives: ``int32[B + 1]``; the first one is −1.
        as_query: ``int32[R]``, the last pair whose query holds the item, from 1; 0 for none.
        as_positive: ``int32[R]``, the last pair whose positive it is, from 1; 0 for none.
    """

    queries: Array | np.ndarray
    positives: Array | np.ndarray
    as_query: Array | np.ndarray
    as_positive: Array | np.ndarray

    @classmethod
    def of(cls, targets: Targets, num_items: int) -> Partners:
        """Find each item's pairs, on the device.

        Args:
            targets: of the batch.
            num_items: R.
        """
        pairs = jnp.arange(1, len(targets.positives) + 1, dtype=jnp.int32)
        nowhere = jnp.zeros(num_items, jnp.int32)
        rows = jnp.where(targets.queries >= 0, targets.queries, num_items)
        owners = jnp.broadcast_to(pairs[:, None], rows.shape)
        return cls(
            jnp.pad(targets.queries, ((1, 0), (0, 0)), constant_values=-1),
            jnp.pad(targets.positives, (1, 0), constant_values=-1),
            nowhere.at[rows].max(owners, mode="drop"),
            nowhere.at[targets.positives].max(pairs),
        )

    @classmethod
    def on_host(cls, targets: Targets, num_items: int) -> Partners:
        """Find each item's pairs, in NumPy.

        Args:
            targets: of the batch.
            num_items: R.
        """
        queries, positives = np.asarray(targets.queries), np.asarray(targets.positives)
        # Of zeros the system makes pages when they are touched, which few are in a large catalogue.
        as_query, as_positive = np.zeros((2, num_items), np.int32)
        pairs, columns = np.nonzero(queries >= 0)
        # NumPy writes in order: of repeated items the last pair stays.
        as_query[queries[pairs, columns]] = pairs + 1
        as_positive[positives] = np.arange(1, len(positives) + 1)
        return cls(
            np.pad(queries, ((1, 0), (0, 0)), constant_values=-1),
            np.pad(positives, (1, 0), constant_values=-1),
            as_query,
            as_positive,
        )

    def hide(self, rows: Any, ids: Any) -> Any:
        """Tell which neighbours some rows must not see, ``bool[rows, T]``.

        Args:
            rows: ``int32[rows]``.
            ids: ``int32[rows, T]``, their neighbours.
        """
        queries = self.queries[self.as_positive[rows]]
        positive = self.positives[self.as_query[rows]]
        seen_as_query = (ids[:, :, None] == queries[:, None, :]).any(axis=2)
        return seen_as_query | (ids == positive[:, None])


@flax.struct.dataclass
class TrainingView:
    """A training step's view of the items: some lack contexts, targets do not see each other.

    The masks are laid over the rows that a batch reads, after these were gathered, so that masking
    costs the same in a catalogue of any size.

    Attributes:
        items: the items as they are.
        partners: which items must not see each other; None hides nothing.
        lost: ``bool[R]``, the items without contexts in this step; None for none.
    """

    items: ItemArrays
    partners: Partners | None = None
    lost: Bool[Array, " items"] | None = None

    @property
    def num_rows(self) -> int:
        """R."""
        return self.items.table.num_rows

    def take(self, rows: Ids) -> NeighborTable:
        """Take the neighbours of some rows; where some are hidden, the other weights add up to 1.

        Args:
            rows: ``int32[rows]``.
        """
        table = self.items.table.take(rows)
        ids, weights = table.ids, table.weights
        if self.partners is not None:
            weights = jnp.where(self.partners.hide(rows, ids), 0.0, weights)
            total = weights.sum(axis=1, keepdims=True)
            weights = weights / jnp.where(total > 0, total, 1.0)
            ids = jnp.where(weights > 0, ids, -1)
        if self.lost is not None:
            lost = self.lost[rows][:, None]
            ids, weights = jnp.where(lost, -1, ids), jnp.where(lost, 0.0, weights)
        return NeighborTable(ids=ids, weights=weights)

    def features(self, nodes: Ids | None) -> Features:
        """Take the features of some rows; one without contexts has no degree and no structure.

        Args:
            nodes: ``int32[nodes]``; None for all items.
        """
        taken: dict[str, Any] = take_features(self.items.features, nodes)
        if self.lost is None:
            return taken
        lost = self.lost if nodes is None else self.lost[nodes]
        for name, value in of_none(self.items).items():
            # The structure is wide: a copy of that of all items would cost as much as its product.
            whole = nodes is None and name == STRUCTURE
            values = taken[name]
            taken[name] = Masked(values, lost) if whole else jnp.where(lost[:, None], value, values)
        return taken


def training_view(
    key: PRNGKey, targets: Targets, items: ItemArrays, config: PinSageConfig
) -> TrainingView:
    """Choose what a step hides: targets from each other, and the contexts of a share of the items.

    Args:
        key: consumed.
        targets: of the batch.
        items: the items as they are.
        config: the settings.
    """
    num_items = items.table.num_rows
    lost = None
    if config.drop_contexts:
        lost = jax.random.bernoulli(key, config.drop_contexts, (num_items,))
    partners = Partners.of(targets, num_items) if config.hides_targets else None
    return TrainingView(items, partners, lost)
