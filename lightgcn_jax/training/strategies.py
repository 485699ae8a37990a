"""What a training step is made of: a model, a score, a loss, a sampler and an optimisation."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Scalar
from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.models.heads import Inner, Score
from lightgcn_jax.models.model import Model, Nodes
from lightgcn_jax.sharding.layout import Layout
from lightgcn_jax.sharding.own_rows import ShardedByRows
from lightgcn_jax.sharding.shards import shard_kernel
from lightgcn_jax.training.losses import BPR, Loss
from lightgcn_jax.training.optimizer import Optimization
from lightgcn_jax.training.samplers import (
    NegativeSampler,
    SharedNegatives,
    as_sampler,
    positive_degree,
)


@dataclasses.dataclass(frozen=True)
class Strategies:
    """The values that a step is made of; hashable, a static argument of compiled functions.

    Attributes:
        model: from parameters and a graph to vectors.
        score: from vectors to scores.
        loss: from the scores of a row to a number.
        negatives: which items are the negatives of a batch.
        optimization: batch size, sampling of positives, learning rate and L2.

    Raises:
        InputError: two of them do not fit together.
    """

    model: Model
    score: Score = Inner()
    loss: Loss = BPR()
    negatives: NegativeSampler | Callable[..., Any] = SharedNegatives()
    optimization: Optimization = Optimization()

    def __post_init__(self):
        object.__setattr__(self, "negatives", as_sampler(self.negatives))
        for field, kind in (("model", Model), ("score", Score), ("optimization", Optimization)):
            found = getattr(self, field)
            if not isinstance(found, kind):
                raise InputError(f"{field}: expected an instance of {kind.__name__}, got {found!r}")
        if isinstance(self.loss, type):
            raise InputError(f"loss: expected {self.loss.__name__}(…), got the class itself")
        if not callable(self.loss):
            raise InputError(
                f"loss: expected a function of positive, negatives and valid, got {self.loss!r}"
            )
        if self.corrects_sampling and not self.sampler.knows_expected_counts:
            raise InputError(
                "sampling_correction: expected a sampler whose probabilities are known (uniform, "
                f"popularity, in-batch or all), got {self.negatives!r}, which chooses by score"
            )
        by_user = self.optimization.sampling == "users"
        if self.corrects_sampling and by_user and self.sampler.counts_need_interactions:
            raise InputError(
                "sampling_correction: expected the sampling of interactions beside in-batch, whose "
                "probabilities are those of the batch's positives, got users"
            )
        lazy = self.optimization.lazy_adam
        if lazy and not self.model.reads_own_rows:
            raise InputError(
                f"lazy_adam: expected mf, whose scores read only the rows of the batch, got "
                f"{type(self.model).__name__}, whose scores read rows of other nodes too, so that "
                f"these have gradients"
            )
        if lazy and self.optimization.accumulate > 1:
            raise InputError(
                f"accumulate: expected 1 beside lazy_adam, which updates the rows of one "
                f"mini-batch, got {self.optimization.accumulate}"
            )
        if self.model.offset_columns and type(self.score) is not Inner:
            raise InputError(
                f"biases: expected the score inner, which adds them, got {self.score!r}"
            )

    @property
    def sampler(self) -> NegativeSampler:
        """The field ``negatives`` as a sampler."""
        return as_sampler(self.negatives)

    @property
    def corrects_sampling(self) -> bool:
        """Whether the loss takes the log of expected draws."""
        return getattr(self.loss, "sampling_correction", False)


class TracedSettings(NamedTuple):
    """The settings that enter the compiled program as numbers, so that one program trains runs that
    differ in them.

    Attributes:
        learning_rate: at the start of the schedule.
        l2: λ.
        temperature: the loss's; 1 for a loss without one.
        margin: the loss's; 0 for a loss without one.
    """

    learning_rate: Scalar | float
    l2: Scalar | float
    temperature: Scalar | float
    margin: Scalar | float

    @classmethod
    def of(cls, strategies: Strategies) -> TracedSettings:
        """The numbers of one run.

        Args:
            strategies: the run's.
        """
        loss, optimization = strategies.loss, strategies.optimization
        temperature, margin = getattr(loss, "temperature", 1.0), getattr(loss, "margin", 0.0)
        return cls(optimization.learning_rate, optimization.l2, temperature, margin)

    @classmethod
    def stacked(cls, strategies: Sequence[Strategies]) -> TracedSettings:
        """The numbers of several runs, ``float[runs]`` each.

        Args:
            strategies: of each run.
        """
        return jax.tree.map(lambda *values: jnp.array(values, float), *map(cls.of, strategies))


class StepInputs(NamedTuple):
    """What the steps of a run read and never change: a pytree, an argument of the compiled steps.

    Attributes:
        graph: the training interactions.
        operator: what the model reads of them.
        sampler: what the sampler of negatives reads of them.
        users_with_items: ``int32[≤U]``, for the sampling of users.
        offsets: ``float[I]``, what the popularity offset adds to each item's scores, or None.
        importance: ``float32[E]`` in the order of the users' CSR, each interaction's weight over
            their mean; None where all count alike.
        layout: where the nodes lie in tables on a mesh; None where each is its own row.
    """

    graph: BipartiteGraph
    operator: Any
    sampler: Any
    users_with_items: Ids
    offsets: Float[Array, " items"] | None = None
    importance: Float[Array, " edges"] | None = None
    layout: Layout | None = None

    def rows(self, nodes: Ids) -> Ids:
        """The rows of nodes in the tables.

        Args:
            nodes: ``int32``, users first.
        """
        return nodes if self.layout is None else self.layout.rows(nodes)

    @classmethod
    def of(
        cls,
        graph: BipartiteGraph,
        strategies: Strategies,
        *,
        backend: Any = "auto",
        replicas: int = 1,
        layout: Layout | None = None,
    ) -> StepInputs:
        """Put together what the strategies read of a graph.

        Args:
            graph: the training interactions.
            strategies: the run's.
            backend: storage of the operator; on a mesh the name of what multiplies on a shard.
            replicas: runs that are trained at once.
            layout: of tables on a mesh.

        Raises:
            InputError: the model reads something of the graph that cannot be shared out.
        """
        if layout is not None and isinstance(backend, str):
            backend = ShardedByRows(layout, shard_kernel(backend))
        operator = strategies.model.operator_of(graph, backend)
        if layout is not None:
            operator = _laid_out(operator, layout)
        # Under vmap a condition runs both its branches.
        if replicas == 1 and isinstance(operator, Operator) and strategies.model.layers:
            operator = operator.planned_for(StepCost.of(graph, strategies).entries)
        sampler = strategies.sampler.prepare(graph)
        with_items = np.flatnonzero(np.asarray(graph.items_of_user.lengths())).astype(np.int32)
        offset, users = strategies.score.popularity_offset, graph.users_of_item.lengths()
        offsets = offset * jnp.log1p(users.astype(float)) if offset else None
        weights, importance = graph.weights(), None
        if weights is not None:
            importance = jax.device_put(
                (weights / weights.mean(dtype=np.float64)).astype(np.float32)
            )
        return cls(
            graph, operator, sampler, jax.device_put(with_items), offsets, importance, layout
        )


def _laid_out(operator: Any, layout: Layout) -> Any:
    if isinstance(operator, Nodes):
        return Nodes(operator.num_users, layout)
    if not isinstance(operator, Operator):
        raise InputError(
            f"mesh: expected a model that reads an operator, got one that reads "
            f"{type(operator).__name__}; train it on one device"
        )
    return operator


class StepCost(NamedTuple):
    """What a training step costs, to the order of magnitude that plans need.

    Attributes:
        entries: directed edges at the rows of a mini-batch, on average.
        moved_bytes: bytes that the dense parts of a step move: two directed passes over the edges
            for each layer, forward and backward, and the optimizer's update of the table.
        held_bytes: memory that a run takes: tables of N rows (the parameters, Adam's two moments
            and the step's new versions of the three, the gradient, the best epoch's and their copy,
            and each layer's output forward and back), the vectors and scores of a batch, and the
            epoch's order. With lazy Adam new versions and gradient are of the batch's rows.
        least_bytes: memory that it takes whatever XLA makes of it: the parameters, Adam's two
            moments, the gradient and the best epoch's, and a batch's scores.
    """

    entries: float
    moved_bytes: int
    held_bytes: int
    least_bytes: int

    @classmethod
    def of(cls, graph: BipartiteGraph, strategies: Strategies) -> StepCost:
        """The cost of a run's step.

        Args:
            graph: the training interactions.
            strategies: the run's.
        """
        model, sampler = strategies.model, strategies.sampler
        optimization, nodes, edges = strategies.optimization, graph.num_nodes, graph.num_edges
        batch_size, width = optimization.batch_size, model.width
        read = sampler.num_items(batch_size, graph.num_items)
        per_row = read // batch_size if sampler.per_user else read
        degrees = np.asarray(graph.items_of_user.lengths(), np.float64)
        # A positive item is met in proportion to its degree, about so in the sampling of users too.
        if optimization.sampling == "interactions":
            user = (degrees**2).sum() / max(1, edges)
        else:
            user = edges / max(1, (degrees > 0).sum())
        entries = batch_size * (user + positive_degree(graph))
        entries += read * sampler.expected_degree(graph)
        updated = min(nodes, 2 * batch_size + read) if optimization.lazy_adam else nodes
        # One more where gradients are accumulated.
        tables = (5 + 2 * model.layers) * nodes + (4 + (optimization.accumulate > 1)) * updated
        batch = 3 * batch_size * per_row + 3 * (2 * batch_size + read) * width
        moved = (4 * model.layers * edges + 12 * nodes) * 4 * width
        # A model or a score of one's own may have no such fields.
        dim, head = getattr(model, "dim", 0), 2 * width * getattr(strategies.score, "hidden", 0)
        least = (4 * nodes + updated) * dim + 5 * head + batch_size * per_row
        return cls(float(entries), moved, 4 * (tables * width + batch + edges), 4 * least)
