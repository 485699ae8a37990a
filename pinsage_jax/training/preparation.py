"""From a task on the host to the arrays of a step: features, neighbours, hard negatives."""

from __future__ import annotations

import time
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from lightgcn_jax.arrays import PRNGKey
from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.memory import check_memory
from lightgcn_jax.training.weighted_draws import ItemWeights, item_weights
from pinsage_jax.config import PinSageConfig, stream
from pinsage_jax.encoder.pinsage import ID_INPUT, STRUCTURE, PinSage, make_model, model_inputs
from pinsage_jax.features.schema import FeatureSchema, TextEncoders, fit_schema
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable, agreement, build_table
from pinsage_jax.graph.structure import Structure
from pinsage_jax.negatives.hard import MOST_QUERIES, HardPool, make_pool
from pinsage_jax.negatives.shared import eligible_weights
from pinsage_jax.tasks.pairs import ExplicitPairs
from pinsage_jax.tasks.task import Task, graph_of
from pinsage_jax.training.batch import HostItemArrays, ItemArrays
from pinsage_jax.training.division import ALONE, Division, preparing_mesh
from pinsage_jax.training.folds import Fold, folds_of, neighbors_of


class Prepared(NamedTuple):
    """Everything that training reads, made once before it.

    Attributes:
        schema: how features are encoded, with the statistics of the training items.
        features: encoded, on the host, ``[I, …]`` by input.
        graph: the items and contexts that are walked.
        table: the neighbours of all items.
        structure: what items' structure is made of; None where the encoder reads none.
        folds: what the steps read, one fold after another.
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
    structure: Structure | None
    folds: tuple[Fold, ...]
    hard: HardPool | None
    model: PinSage
    degree_of_none: float | None
    notes: tuple[str, ...]
    seconds: dict[str, float]


class Meaning(NamedTuple):
    """What a run's inputs mean, for those who go on with its encoder.

    Attributes:
        schema: how features are encoded.
        structure: what items' structure is made of; None where the encoder reads none.
    """

    schema: FeatureSchema
    structure: Structure | None


def prepare(
    task: Task,
    config: PinSageConfig,
    text_encoders: TextEncoders | None = None,
    meaning: Meaning | None = None,
    mesh: Mesh | str | None = None,
) -> Prepared:
    """Encode the features, build the graph, walk, and rank hard negatives.

    Args:
        task: what is trained on.
        config: the settings.
        text_encoders: by text column, what makes a sentence vector of its texts.
        meaning: what inputs mean; by default what this task's training items say.
        mesh: devices to share the graph's rows out over, for structure and PageRank, where one
            does not hold them (:func:`pinsage_jax.training.division.preparing_mesh`).

    Raises:
        InputError: a column that the settings name is not there, or features do not fit.
    """
    check_memory(
        _least_bytes(config, task.train.num_items),
        "dim, word_dim, batch_size, negatives, neighbors or structure",
    )
    notes: list[str] = []
    seconds: dict[str, float] = {}
    clock = _Clock(seconds)
    graph = graph_of(task)
    degrees = graph.item_degrees()
    rows_on = preparing_mesh(mesh, _graph_bytes(graph, config))
    if rows_on is not None:
        notes.append(f"structure and PageRank: the graph's rows lie on {rows_on.size} devices")
    raw = task.data.features
    if config.columns is not None:
        raw = raw.select(config.columns)
    train_rows = np.flatnonzero(task.train_items)
    schema = (
        fit_schema(
            raw, train_rows, degrees, log_degree=config.log_degree, text_encoders=text_encoders
        )
        if meaning is None
        else meaning.schema
    )
    features = schema.encode(raw, degrees, text_encoders)
    if config.id_embedding:
        features[ID_INPUT] = _own_rows(task.train_items)
    nobody = None
    if config.log_degree:
        nobody = float(schema.encode_degrees(np.zeros(1, np.int64))[0, 0])
    clock.lap("features")
    structure = None
    if config.structure:
        structure = None if meaning is None else meaning.structure
        if structure is None:
            key = stream(config, "structure")
            structure = Structure.of(key, graph, config.structure, rows_on)
        features[STRUCTURE] = structure.items(graph)
        clock.lap("structure")
    table = neighbors_of(graph, config, epoch=0)
    if config.uses_graph:
        notes.append(_agreement_note(graph, config, table))
    clock.lap("neighbours")
    whole = Fold(task.pairs, table, features)
    folds = folds_of(task, config, whole, schema, structure, epoch=0)
    if len(folds) > 1:
        asked = sum(fold.pairs.num_pairs for fold in folds)
        notes.append(f"{len(folds)} folds; {asked:,} edges are asked about, each in one of them")
        clock.lap("folds")
    hard = None
    if config.hard_negatives:
        key = jax.random.fold_in(stream(config, "hard"), 0)
        hard = hard_pool_of(key, graph, task, config, mesh=rows_on)
        notes.append(hard.describe())
        clock.lap("hard negatives")
    isolated = int((degrees[train_rows] == 0).sum())
    if isolated:
        notes.append(f"{isolated:,} training items have no context")
    model = make_model(model_inputs(schema, config, len(degrees)), config)
    return Prepared(
        schema,
        features,
        graph,
        table,
        structure,
        folds,
        hard,
        model,
        nobody,
        tuple(notes),
        seconds,
    )


def _least_bytes(config: PinSageConfig, num_items: int) -> int:
    """What a run holds whatever XLA makes of it: the neighbours of all items, the largest weights
    with Adam's moments, the gradient and the best epoch's, a batch's vectors and scores. The layers
    of all items may lie on the disk."""
    neighbors = 2 * config.neighbors if config.uses_graph else 0
    weights = 5 * config.layers * config.dim**2
    batch = config.batch_size * (config.dim + config.negatives)
    return 4 * (num_items * (neighbors + config.structure) + weights + batch)


def _graph_bytes(graph: ItemGraph, config: PinSageConfig) -> int:
    """What structure and PageRank hold of a graph: both its ways, and tables that it multiplies."""
    rows = graph.num_items + graph.num_contexts
    width = max(config.structure, MOST_QUERIES if config.hard_negatives else 0)
    entries = len(graph.contexts_of_item.columns)
    return 2 * 8 * entries + 2 * 4 * rows * width if width else 0


def _own_rows(known: np.ndarray) -> np.ndarray:
    """The row of each item that has a learnt vector; −1 for one that training does not see."""
    return np.where(known, np.arange(len(known)), -1).astype(np.int32)[:, None]


def _agreement_note(graph: ItemGraph, config: PinSageConfig, table: NeighborTable) -> str:
    """How much of the neighbourhoods another draw would confirm, for some items."""
    listed = np.flatnonzero(graph.item_degrees())
    key = jax.random.fold_in(stream(config, "walks"), 2**31 - 1)
    rows = np.asarray(jax.random.permutation(key, listed))[:_COMPARED]
    again = build_table(
        key, graph, neighbors=config.neighbors, config=config.walk_config, rows=rows
    )
    share = agreement(table.take(jax.device_put(rows)), again)
    return (
        f"{config.walk_config.visits:,} visits an item: two draws of its {config.neighbors} "
        f"neighbours share {share:.0%} of their weight"
    )


# Items whose neighbours are drawn twice.
_COMPARED = 500


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
    mesh: Mesh | None = None,
) -> HardPool:
    """Rank hard negatives by the settings, without the positives that the task trains on.

    Args:
        key: consumed.
        graph: the graph that is walked.
        task: whose explicit pairs are never pooled. Other pairs share a context of the graph,
            which keeps them out as well.
        config: the settings.
        rows: ``int[n]``, the items that get a pool; None for all that have contexts.
        mesh: devices to share the graph's rows out over; None for one.
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
        mesh=mesh,
    )


def item_arrays(
    task: Task, prepared: Prepared, config: PinSageConfig, division: Division = ALONE
) -> ItemArrays:
    """Put what all folds share of a step's arrays onto the device, or onto those of a mesh.

    Features and neighbours follow fold by fold.

    Args:
        task: what is trained on.
        prepared: features, neighbours and hard negatives of its items.
        config: the settings.
        division: how batches are divided among devices.
    """
    law = _degree_law(task) if config.negative_law == "degree" else None
    log_draws = _log_draws(task, law, config)
    nobody = prepared.degree_of_none
    on_each = {
        "training_items": jax.device_put(np.flatnonzero(task.train_items).astype(np.int32)),
        "law": law,
        "log_draws": None if log_draws is None else jax.device_put(log_draws),
        "degree_of_none": None if nobody is None else jnp.asarray(nobody, jnp.float32),
    }
    return ItemArrays(
        features={},
        table=prepared.table,
        hard_pool=None if prepared.hard is None else division.table(prepared.hard.ids),
        **division.placed(on_each),
    )


def host_item_arrays(task: Task, prepared: Prepared, config: PinSageConfig) -> HostItemArrays:
    """Lay the same arrays out on the host, for the pipeline that feeds the device.

    Args:
        task: what is trained on.
        prepared: features, neighbours and hard negatives of its items.
        config: the settings.
    """
    law = None
    weights = _degree_law(task) if config.negative_law == "degree" else None
    if weights is not None:
        law = _probabilities(weights)
    return HostItemArrays(
        features=prepared.features,
        ids=np.asarray(prepared.table.ids),
        weights=np.asarray(prepared.table.weights),
        training_items=np.flatnonzero(task.train_items).astype(np.int32),
        law=law,
        log_draws=_log_draws(task, weights, config),
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


def _log_draws(task: Task, law: ItemWeights | None, config: PinSageConfig) -> np.ndarray | None:
    """The logarithm of how often each item is expected among the negatives of a batch.

    Of M draws by a law an item has M times its probability. Where the positives of a batch are
    negatives too, each is drawn about in proportion to its training edges.

    Returns:
        ``float32[I]``, −∞ for an item that is held out; None where all are drawn alike.
    """
    if not config.sampling_corrected:
        return None
    known = task.train_items
    expected = known / known.sum()
    if law is not None:
        expected = np.zeros(len(known))
        expected[known] = _probabilities(law)
    expected = config.negatives * expected
    if config.in_batch:
        edges = np.bincount(task.train.item_rows, minlength=len(known))
        expected += config.batch_size * edges / edges.sum()
    with np.errstate(divide="ignore"):
        return np.log(expected).astype(np.float32)
