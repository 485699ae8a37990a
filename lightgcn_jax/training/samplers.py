"""Samplers of negatives: values that say which items a mini-batch takes for negatives.

A sampler is called as ``sampler(key, prepared, users, positives, weights)`` and returns
:class:`Negatives`. It is traced; what it needs of the graph is made once, on the host, by
``prepare(graph)``, which by default is the graph itself. A sampler of one's own derives from
:class:`NegativeSampler`, or is a plain function of these five arguments.
"""

from __future__ import annotations

import abc
import dataclasses
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple

import flax.struct
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int, Mask, PRNGKey
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import SWITCH, Checked, at_least, optional, setting, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.training.batch_terms import hardest
from lightgcn_jax.training.losses import BatchScores
from lightgcn_jax.training.negatives import (
    all_items,
    draw_per_user,
    draw_shared,
    in_batch,
    log_expected_drawn,
    log_expected_in_batch,
    log_expected_unseen,
)
from lightgcn_jax.training.weighted_draws import ItemWeights, item_weights

Weights = Float[Array, " batch"]


class Negatives(NamedTuple):
    """The negatives of a batch.

    Attributes:
        items: ``int32[M]`` shared by the batch, or ``int32[B, n]``.
        valid: ``bool[B, M]`` or ``bool[B, n]``; False where the item does not count for the row: a
            seen item, or the row's own positive.
        log_expected: ``float``, the shape of the items; the log of how often an item is expected
            among the draws of a row. None where every item stands there once, or where no law of
            draws is known.
        weights: ``float[M]``, 0 for shared items that are padding; None where none are.
    """

    items: Int[Array, "..."]
    valid: Mask
    log_expected: Float[Array, "..."] | None = None
    weights: Float[Array, " shared"] | None = None


class NegativeSampler(Checked, abc.ABC):
    """A sampler; each is a frozen dataclass of its own settings.

    Attributes:
        per_user: whether each row has items of its own.
        knows_expected_counts: whether a loss can correct for how the items were drawn.
        counts_need_interactions: whether the expected counts hold only where positives are
            interactions, each drawn once an epoch.
    """

    per_user: ClassVar[bool] = False
    knows_expected_counts: ClassVar[bool] = True
    counts_need_interactions: ClassVar[bool] = False

    def prepare(self, graph: BipartiteGraph) -> Any:
        """What the sampler reads of a graph, a pytree: an argument of compiled functions.

        Args:
            graph: the training interactions.
        """
        return graph

    @abc.abstractmethod
    def __call__(
        self, key: PRNGKey, prepared: Any, users: Ids, positives: Ids, weights: Weights
    ) -> Negatives:
        """The negatives of a mini-batch.

        Args:
            key: randomness of the draws.
            prepared: from :meth:`prepare`.
            users: ``int32[B]``.
            positives: ``int32[B]``.
            weights: ``float[B]``, 0 for rows that are padding.
        """

    def chosen(self, scores: BatchScores, valid: Mask) -> tuple[BatchScores, Mask]:
        """The negatives that enter the loss, chosen by their scores; by default all of them.

        Args:
            scores: ``float[B, M]``.
            valid: ``bool[B, M]``.
        """
        return scores, valid

    def num_items(self, batch_size: int, num_items: int) -> int:
        """Item vectors that a batch reads for its negatives.

        Args:
            batch_size: B.
            num_items: I.
        """
        del num_items
        return batch_size

    def expected_degree(self, graph: BipartiteGraph) -> float:
        """Users that a negative has, on average over the draws.

        Args:
            graph: the training interactions.
        """
        return float(np.asarray(graph.users_of_item.lengths(), np.float64).mean())


@flax.struct.dataclass
class _Weighted:
    graph: BipartiteGraph
    weights: ItemWeights | None


@dataclasses.dataclass(frozen=True)
class SharedNegatives(NegativeSampler):
    """M items drawn with replacement for the whole batch; a row's seen items are masked exactly.

    Attributes:
        negatives: items M that a batch shares.
        popularity_power: draw items in proportion to this power of their number of users; None
            draws uniformly.
        reject_seen: never take a user's training items for negatives; else only the row's own
            positive is masked.
    """

    negatives: int = setting(256, whole(1))
    popularity_power: float | None = setting(None, optional(at_least(0)))
    reject_seen: bool = setting(True, SWITCH)

    def prepare(self, graph: BipartiteGraph) -> _Weighted:
        power = self.popularity_power
        return _Weighted(graph, None if power is None else item_weights(graph, power))

    def __call__(
        self, key: PRNGKey, prepared: Any, users: Ids, positives: Ids, weights: Weights
    ) -> Negatives:
        del weights
        arguments = (users, self.negatives, prepared.weights, self.reject_seen, positives)
        items, valid = draw_shared(key, prepared.graph, *arguments)
        expected = log_expected_drawn(prepared.graph, items, self.negatives, prepared.weights)
        return Negatives(items, valid, expected)

    def num_items(self, batch_size: int, num_items: int) -> int:
        del batch_size, num_items
        return self.negatives

    def expected_degree(self, graph: BipartiteGraph) -> float:
        weighted = self.popularity_power is not None
        return positive_degree(graph) if weighted else super().expected_degree(graph)


@dataclasses.dataclass(frozen=True)
class PerUserNegatives(SharedNegatives):
    """n items drawn with replacement for each row, from what its user has not seen.

    Attributes:
        negatives: items n of each row.
        popularity_power: draw items in proportion to this power of their number of users; None
            draws uniformly.
        reject_seen: never take a user's training items for negatives; else items are drawn from all
            and only the row's own positive is masked.
    """

    per_user = True

    def __call__(
        self, key: PRNGKey, prepared: Any, users: Ids, positives: Ids, weights: Weights
    ) -> Negatives:
        del weights
        graph, law, count = prepared.graph, prepared.weights, self.negatives
        items, valid = draw_per_user(key, graph, users, count, law, self.reject_seen, positives)
        if self.reject_seen:
            expected = log_expected_unseen(graph, users, items, count, law)
        else:
            expected = log_expected_drawn(graph, items, count, law)
        return Negatives(items, valid, expected)

    def num_items(self, batch_size: int, num_items: int) -> int:
        del num_items
        return batch_size * self.negatives


@dataclasses.dataclass(frozen=True)
class InBatchNegatives(NegativeSampler):
    """The positives of the batch as everyone's negatives; nothing is drawn, and padding is nobody's
    negative.

    The expected counts are those of interactions drawn uniformly without repetition.

    Attributes:
        reject_seen: never take a user's training items for negatives; else only the row's own
            positive is masked.
    """

    reject_seen: bool = setting(True, SWITCH)

    counts_need_interactions = True

    def __call__(
        self, key: PRNGKey, prepared: Any, users: Ids, positives: Ids, weights: Weights
    ) -> Negatives:
        del key
        items, valid = in_batch(prepared, users, positives, self.reject_seen)
        real = weights > 0
        expected = log_expected_in_batch(prepared, items, real.sum())
        return Negatives(items, valid & real[None, :], expected, weights)

    def expected_degree(self, graph: BipartiteGraph) -> float:
        return positive_degree(graph)


@dataclasses.dataclass(frozen=True)
class HardNegatives(NegativeSampler):
    """Of a shared uniform pool, the items that score highest for each row.

    Attributes:
        negatives: items that each row takes from the pool.
        hard_pool: items in the pool.
        reject_seen: never take a user's training items for negatives; else only the row's own
            positive is masked.
    """

    negatives: int = setting(256, whole(1))
    hard_pool: int = setting(1024, whole(1))
    reject_seen: bool = setting(True, SWITCH)

    # What is chosen depends on the scores.
    knows_expected_counts = False

    def __post_init__(self):
        super().__post_init__()
        if self.negatives > self.hard_pool:
            raise InputError(
                f"negatives: expected at most hard_pool = {self.hard_pool} of the sampler hard, "
                f"got {self.negatives}"
            )

    def __call__(
        self, key: PRNGKey, prepared: Any, users: Ids, positives: Ids, weights: Weights
    ) -> Negatives:
        del weights
        arguments = (users, self.hard_pool, None, self.reject_seen, positives)
        return Negatives(*draw_shared(key, prepared, *arguments))

    def chosen(self, scores: BatchScores, valid: Mask) -> tuple[BatchScores, Mask]:
        return hardest(scores, valid, self.negatives)

    def num_items(self, batch_size: int, num_items: int) -> int:
        del batch_size, num_items
        return self.hard_pool


@dataclasses.dataclass(frozen=True)
class AllItems(NegativeSampler):
    """Every item that a row's user has not seen; a dense mask B×I, for small catalogues."""

    def __call__(
        self, key: PRNGKey, prepared: Any, users: Ids, positives: Ids, weights: Weights
    ) -> Negatives:
        del key, positives, weights
        return Negatives(*all_items(prepared, users))

    def num_items(self, batch_size: int, num_items: int) -> int:
        del batch_size
        return num_items


@dataclasses.dataclass(frozen=True)
class FunctionSampler(NegativeSampler):
    """A sampler made of a plain function.

    Attributes:
        function: called as the sampler is; ``prepared`` is the graph.
    """

    function: Callable[..., Negatives]

    def __call__(
        self, key: PRNGKey, prepared: Any, users: Ids, positives: Ids, weights: Weights
    ) -> Negatives:
        return Negatives(*self.function(key, prepared, users, positives, weights))


def as_sampler(sampler: NegativeSampler | Callable[..., Negatives]) -> NegativeSampler:
    """A sampler as it is, a plain function as a :class:`FunctionSampler`.

    Args:
        sampler: either of them.

    Raises:
        InputError: it is neither.
    """
    if isinstance(sampler, NegativeSampler):
        return sampler
    if not callable(sampler):
        raise InputError(
            f"negatives: expected a sampler such as SharedNegatives(256) or a function, "
            f"got {sampler!r}"
        )
    return FunctionSampler(sampler)


def positive_degree(graph: BipartiteGraph) -> float:
    """Users that a positive has, on average over the interactions: Σd²/E.

    Args:
        graph: the training interactions.
    """
    degrees = np.asarray(graph.users_of_item.lengths(), np.float64)
    return float((degrees**2).sum() / max(1, graph.num_edges))
