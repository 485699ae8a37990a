"""From a task on the host to the arrays of a step: features, neighbours, hard negatives."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import PRNGKey
from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.training.weighted_draws import ItemWeights, item_weights
from pinsage_jax.config import PinSageConfig, stream
from pinsage_jax.encoder.pinsage import PinSage, make_model, model_inputs, with_ids
from pinsage_jax.features.schema import FeatureSchema, TextEncoders, fit_schema
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable, build_table
from pinsage_jax.negatives.hard import HardPool, make_pool
from pinsage_jax.negatives.shared import eligible_weights
from pinsage_jax.tasks.pairs import ExplicitPairs
from pinsage_jax.tasks.task import Task, graph_of
from pinsage_jax.training.batch import HostItemArrays, ItemArrays


class Prepared(NamedTuple):
    """Everything that training reads, made once before it.

    Attributes:
        schema: how features are encoded, with the statistics of the training items.
        features: encoded, on the host, ``[I, …]`` by input.
        graph: the items and contexts that are walked.
        table: the neighbours of all items.
        hard: pools of hard negatives; None where there are none.
        model: the encoder.
        degree_of_none: the encoded log-degree of an item without contexts; None where the encoder
            does not see degrees.
        notes: lines worth telling a user.
        seconds: how long each part took, by name.
    """

    schema: FeatureSchema
    features: dict[str, np.ndarray]
    graph: ItemGraph
    table: NeighborTable
    hard: HardPool | None
    model: PinSage
    degree_of_none: float | None
    notes: tuple[str, ...]
    seconds: dict[str, float]


def prepare(
    task: Task, config: PinSageConfig, text_encoders: TextEncoders | None = None
) -> Prepared:
    """Encode the features, build the graph, walk, and rank hard negatives.

    Args:
        task: what is trained on.
        config: the settings.
        text_encoders: by text column, what makes a sentence vector of its texts.

    Raises:
        InputError: a column that the settings name is not there, or features do not fit.
    """
    notes: list[str] = []
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    graph = graph_of(task)
    degrees = graph.item_degrees()
    raw = task.data.features
    if config.columns is not None:
        raw = raw.select(config.columns)
    train_rows = np.flatnonzero(task.train_items)
    schema = fit_schema(
        raw, train_rows, degrees, log_degree=config.log_degree, text_encoders=text_encoders
    )
    features = with_ids(schema.encode(raw, degrees, text_encoders), config, task.train_items)
    nobody = None
    if config.log_degree:
        nobody = float(schema.encode_degrees(np.zeros(1, np.int64))[0, 0])
    clock.lap("features")
    table = neighbors_of(graph, config, epoch=0)
    clock.lap("neighbours")
    hard = None
    if config.hard_negatives:
        hard = hard_pool_of(jax.random.fold_in(stream(config, "hard"), 0), graph, task, config)
        notes.append(hard.describe())
        clock.lap("hard negatives")
    isolated = int((degrees[train_rows] == 0).sum())
    if isolated:
        notes.append(f"{isolated:,} training items have no context")
    model = make_model(model_inputs(schema, config, len(degrees)), config)
    return Prepared(schema, features, graph, table, hard, model, nobody, tuple(notes), seconds)


class _Clock:
    def __init__(self, seconds: dict[str, float]):
        self._seconds, self._last = seconds, time.perf_counter()

    def lap(self, name: str) -> None:
        now = time.perf_counter()
        self._seconds[name], self._last = now - self._last, now


def hard_pool_of(
    key: PRNGKey,
    graph: ItemGraph,
    task: Task,
    config: PinSageConfig,
    rows: np.ndarray | None = None,
) -> HardPool:
    """Rank hard negatives by the settings, without the positives that the task trains on.

    Args:
        key: consumed.
        graph: the graph that is walked.
        task: whose explicit pairs are never pooled. Other pairs share a context of the graph,
            which keeps them out as well.
        config: the settings.
        rows: ``int[n]``, the items that get a pool; None for all that have contexts.
    """
    positives = None
    if isinstance(task.pairs, ExplicitPairs):
        positives = task.pairs.positive_rows(graph.num_items)
    return make_pool(
        key,
        graph,
        band=config.hard_band,
        pool=config.hard_pool,
        ranking=config.hard_ranking,
        restart=config.restart,
        visits=config.hard_visits,
        rows=rows,
        positives=positives,
    )


def neighbors_of(graph: ItemGraph, config: PinSageConfig, *, epoch: int) -> NeighborTable:
    """Draw the neighbours of all items for an epoch; none where the encoder has no layers.

    Args:
        graph: the graph that is walked.
        config: the settings.
        epoch: the epoch before which they are drawn; 0 for the start.
    """
    if not config.uses_graph:
        return NeighborTable(
            ids=jnp.full((graph.num_items, 1), -1, jnp.int32),
            weights=jnp.zeros((graph.num_items, 1), jnp.float32),
        )
    key = jax.random.fold_in(stream(config, "walks"), epoch)
    return build_table(key, graph, neighbors=config.neighbors, config=config.walk_config)


def item_arrays(task: Task, prepared: Prepared, config: PinSageConfig) -> ItemArrays:
    """Put the arrays of a training step onto the device.

    Args:
        task: what is trained on.
        prepared: features, neighbours and hard negatives of its items.
        config: the settings.
    """
    law = log_law = None
    if config.negative_law == "degree":
        law = _degree_law(task)
        log_law = jnp.asarray(_log_law(law, task))
    return ItemArrays(
        features={name: jnp.asarray(values) for name, values in prepared.features.items()},
        table=prepared.table,
        training_items=jnp.asarray(np.flatnonzero(task.train_items).astype(np.int32)),
        law=law,
        log_law=log_law,
        hard_pool=None if prepared.hard is None else prepared.hard.ids,
        degree_of_none=(
            None
            if prepared.degree_of_none is None
            else jnp.asarray(prepared.degree_of_none, jnp.float32)
        ),
    )


def host_item_arrays(task: Task, prepared: Prepared, config: PinSageConfig) -> HostItemArrays:
    """Lay the same arrays out on the host, for the pipeline that feeds the device.

    Args:
        task: what is trained on.
        prepared: features, neighbours and hard negatives of its items.
        config: the settings.
    """
    law = log_law = None
    if config.negative_law == "degree":
        weights = _degree_law(task)
        law, log_law = _probabilities(weights), _log_law(weights, task)
    return HostItemArrays(
        features=prepared.features,
        ids=np.asarray(prepared.table.ids),
        weights=np.asarray(prepared.table.weights),
        training_items=np.flatnonzero(task.train_items).astype(np.int32),
        law=law,
        log_law=log_law,
        hard_pool=None if prepared.hard is None else np.asarray(prepared.hard.ids),
        degree_of_none=prepared.degree_of_none,
    )


def _degree_law(task: Task) -> ItemWeights:
    train = task.train.deduplicated()
    graph = BipartiteGraph.from_pairs(
        train.user_rows, train.item_rows, num_users=train.num_users, num_items=train.num_items
    )
    return eligible_weights(item_weights(graph, 1.0), np.flatnonzero(task.train_items))


def _probabilities(law: ItemWeights) -> np.ndarray:
    """The probability of each training item in a draw, ``float64[n]``."""
    weights = np.asarray(law.weights, np.float64)
    return weights / weights.sum()


def _log_law(law: ItemWeights, task: Task) -> np.ndarray:
    """The logarithm of each item's probability in a draw, ``float32[I]``; −∞ if it is held out."""
    logs = np.full(len(task.train_items), -np.inf, np.float32)
    logs[task.train_items] = np.log(_probabilities(law))
    return logs
