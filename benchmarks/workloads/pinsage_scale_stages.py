"""``python -m benchmarks.workloads.pinsage_scale_stages STAGE FOLDER …``: a stage of PinSAGE on a
generated world, in a process of its own; a line of JSON.

A stage reads what those before it left in the folder, as arrays that are mapped, and leaves its
own there.
"""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import sys
import time
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from benchmarks.workloads.plain_scores import plain_scores
from benchmarks.workloads.topic_world import WIDTH, write_world
from lightgcn_jax.data import Interactions
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.json_files import read_json, write_json
from lightgcn_jax.models.trivial import PopularScorer
from lightgcn_jax.runs.checkpoint import load_checkpoint, save_checkpoint
from pinsage_jax.config import PinSageConfig
from pinsage_jax.data.items import ItemData
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.by_chunks import OneDevice
from pinsage_jax.encoder.pinsage import init_params, make_model
from pinsage_jax.evaluation.feature_cosine import feature_cosine
from pinsage_jax.evaluation.metrics import ranked_metrics
from pinsage_jax.evaluation.ranks import held_out_scorer
from pinsage_jax.features.columns import Column
from pinsage_jax.features.inputs import Input
from pinsage_jax.features.schema import FeatureSchema, fit_schema
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.graph.item_graph import Adjacency, ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.tasks.holdout import cooccurrence_task
from pinsage_jax.tasks.pairs import CooccurrencePairs
from pinsage_jax.tasks.task import HeldOut, Task
from pinsage_jax.training.folds import Fold, neighbors_of
from pinsage_jax.training.preparation import Prepared
from pinsage_jax.training.step import TrainState
from pinsage_jax.training.trainer import Trainer, make_optimizer

CONFIG = PinSageConfig(walks=50, fan=1, structure=0, folds=0, tables="host")
"""The defaults, with the paper's walks: of these, folds of the graph and structural inputs the
memory and the time hold no more."""

_COLUMN, _HELD_OUT, _QUERIES, _CANDIDATES, _KS = "signs", 0.01, 2_000, 10_000, (10, 100)
_WARM_UP_STEPS, _CHUNK = 50, 65_536
_CHECKPOINTS = "checkpoints"
_DIRECTIONS = "contexts_of_item", "items_of_context"
_ADJACENCY = "starts", "lengths", "columns"


def world(folder: Path, items: int, memberships: int) -> dict[str, Any]:
    """Generate items and memberships.

    Args:
        folder: of all stages.
        items: how many.
        memberships: how many.
    """
    start = time.perf_counter()
    told = write_world(folder, items, memberships)
    return _rated("memberships", memberships, start) | told


def hold_out(folder: Path, contexts: int) -> dict[str, Any]:
    """Hold pairs out of the memberships.

    Args:
        folder: of all stages.
        contexts: how many there are.
    """
    start = time.perf_counter()
    features = _kept(folder, "features")
    rows = _kept(folder, "item_rows"), _kept(folder, "context_rows")
    task = cooccurrence_task(
        _data(features, *rows, contexts),
        valid=_HELD_OUT,
        test=_HELD_OUT,
        held_out_items=0,
        max_queries=_QUERIES,
    )
    _keep(folder, "train_items", task.train.item_rows)
    _keep(folder, "train_contexts", task.train.user_rows)
    for part in ("valid", "test"):
        held_out: HeldOut = getattr(task, part)
        pairs = held_out.queries[:, 0], np.asarray(held_out.relevant.columns)
        _keep(folder, part, np.stack(pairs))
    return _rated("memberships", len(rows[0]), start) | {"trained": len(task.train)}


def graph(folder: Path, contexts: int) -> dict[str, Any]:
    """Build the graph that is walked, both ways.

    Args:
        folder: of all stages.
        contexts: how many there are.
    """
    start = time.perf_counter()
    items, of_items = _kept(folder, "train_items"), len(_kept(folder, "features"))
    made = ItemGraph.from_pairs(
        items, _kept(folder, "train_contexts"), num_items=of_items, num_contexts=contexts
    )
    for direction in _DIRECTIONS:
        for name in _ADJACENCY:
            _keep(folder, f"{direction} {name}", getattr(getattr(made, direction), name))
    return _rated("memberships", len(items), start)


def inputs(folder: Path) -> dict[str, Any]:
    """Encode the features.

    Args:
        folder: of all stages.
    """
    start = time.perf_counter()
    degrees = _kept(folder, "contexts_of_item lengths")
    table = _features(_kept(folder, "features"))
    schema = fit_schema(table, np.arange(len(degrees)), degrees)
    write_json(folder / "schema.json", schema.as_json())
    for name, values in schema.encode(table, degrees).items():
        _keep(folder, f"input {name}", values)
    return _rated("items", len(degrees), start)


def neighbors(folder: Path, count: int) -> dict[str, Any]:
    """Walk from every item, and keep its most important neighbours.

    Args:
        folder: of all stages.
        count: how many neighbours an item keeps.
    """
    start = time.perf_counter()
    config = dataclasses.replace(CONFIG, neighbors=count)
    table = neighbors_of(jax.device_put(_graph(folder)), config, epoch=0)
    for name in ("ids", "weights"):
        _keep(folder, f"neighbors {name}", getattr(table, name))
    rated = _rated("items", table.num_rows, start)
    steps = table.num_rows * CONFIG.walks * CONFIG.walk_length
    return rated | {"walk_steps_a_second": steps / rated["seconds_of_work"]}


def train(folder: Path, minutes: float, pairs: int) -> dict[str, Any]:
    """Train an encoder for some minutes, or go on with it.

    Args:
        folder: of all stages.
        minutes: how long.
        pairs: of a step.
    """
    task, prepared = _task(folder), _prepared(folder)
    config = dataclasses.replace(
        CONFIG,
        neighbors=prepared.table.ids.shape[1],
        batch_size=pairs,
        warmup_epochs=_WARM_UP_STEPS * pairs / task.pairs.num_pairs,
    )
    folds = (Fold(task.pairs, prepared.table, prepared.features),)
    trainer = Trainer(task, config, prepared._replace(folds=folds))
    progress = trainer.start()
    checkpoint = load_checkpoint(folder / _CHECKPOINTS, progress.state)
    if checkpoint is not None:
        losses = np.array(checkpoint.progress["losses"], np.float32)
        progress = progress._replace(state=checkpoint.arrays, losses=losses)
    begun, start = len(progress.losses), time.perf_counter()
    end = start + 60 * minutes
    progress, _ = trainer.train_epoch(progress, lambda: time.perf_counter() >= end)
    losses = progress.losses
    if not len(losses):
        raise InputError(f"minutes: expected less than an epoch takes, got {minutes:g}")
    kept = {"losses": losses.tolist()}
    save_checkpoint(folder / _CHECKPOINTS, len(losses), progress.state, kept)
    told = _rated("pairs", (len(losses) - begun) * pairs, start)
    ends = max(1, len(losses) // 10)
    return told | {
        "steps": len(losses),
        "begun_with_steps": begun,
        "first_loss": float(losses[:ends].mean()),
        "last_loss": float(losses[-ends:].mean()),
        "nodes": trainer.tier_note(),
    }


def embed(folder: Path, killed_at: float = 1.0) -> dict[str, Any]:
    """Embed all items, or go on with it.

    Args:
        folder: of all stages.
        killed_at: the share of the work after which the process kills itself.
    """
    begun = _vectors_done(folder)
    start = time.perf_counter()

    def advanced(share: float) -> None:
        if killed_at <= share < 1:
            os.kill(os.getpid(), signal.SIGKILL)

    table, features = _table(folder), _inputs(folder)
    given = _model(folder), _params(folder), features, table
    embed_all(*given, chunk=_CHUNK, out=folder / "vectors", advanced=advanced)
    return _rated("items", table.num_rows, start) | {"begun_with_rows": begun}


def check(folder: Path, layer: int, row: int) -> dict[str, Any]:
    """Compute rows around the place of the kill once more, and compare their bytes.

    Args:
        folder: of all stages.
        layer: the layer that was written, from 1.
        row: where the killed process ended.
    """
    start, chunk = time.perf_counter(), _CHUNK
    below, made = (np.load(_layer(folder, k), mmap_mode="r") for k in (layer - 1, layer))
    table, by_chunks = _table(folder), OneDevice(_model(folder), _params(folder), chunk)
    messages = by_chunks.messages(below.__getitem__, layer - 1, len(below))
    places = [slice(at, at + chunk) for at in (row - chunk, row) if 0 <= at <= len(made) - chunk]

    def again(part: slice) -> np.ndarray:
        rows = below[part], np.asarray(table.ids[part]), np.asarray(table.weights[part])
        return by_chunks.taken(by_chunks.convolve(rows, messages, layer - 1))

    same = [np.array_equal(again(part), made[part]) for part in places]
    return _rated("items", chunk * len(places), start) | {"same_bytes": all(same)}


def rank(folder: Path) -> dict[str, Any]:
    """Rank held-out positives among a sample of the items, by vectors and without them.

    Args:
        folder: of all stages.
    """
    start = time.perf_counter()
    queries, positives = _kept(folder, "test")
    degrees = _kept(folder, "contexts_of_item lengths")
    sample = np.random.default_rng(0).integers(0, len(degrees), _CANDIDATES)
    pool = np.unique(np.concatenate([queries, positives, sample]))
    plain = plain_scores(_graph(folder), _table(folder), queries, pool)
    queries, positives = (
        np.searchsorted(pool, rows).astype(np.int32) for rows in (queries, positives)
    )
    rows = np.arange(len(queries))
    relevant, seen = (csr_rows(rows, one, len(rows)) for one in (positives, queries))
    held_out = HeldOut(queries[:, None], relevant, seen)
    signs = Input.dense(_COLUMN, WIDTH)
    arrays: dict[str, Any] = {_COLUMN: _inputs(folder)[_COLUMN][pool]}
    vectors = np.load(_layer(folder, CONFIG.layers), mmap_mode="r")[pool]
    scorers = {
        "PinSAGE": held_out_scorer(vectors, held_out),
        "features": feature_cosine([signs], arrays, held_out.queries),
        "popularity": PopularScorer(jnp.asarray(degrees[pool], jnp.float32), len(queries)),
    }
    # A query's own vector picks its column of scores that are known.
    own = jnp.eye(len(queries))
    scorers |= {name: InnerProduct(own, jnp.asarray(scores)) for name, scores in plain.items()}
    metrics = {name: ranked_metrics(one, held_out, ks=_KS) for name, one in scorers.items()}
    told = {"candidates": len(pool), "metrics": metrics}
    return _rated("pairs", len(queries), start) | told


def _rated(unit: str, count: int, start: float) -> dict[str, Any]:
    seconds = time.perf_counter() - start
    return {"unit": unit, "count": count, "seconds_of_work": seconds}


def _keep(folder: Path, name: str, values: Any) -> None:
    np.save(folder / f"{name}.npy", np.asarray(values))


def _kept(folder: Path, name: str) -> Any:
    """An array that is mapped, which may stand in the place of one of JAX's."""
    return np.load(folder / f"{name}.npy", mmap_mode="r")


def _features(values: np.ndarray) -> FeatureTable:
    return FeatureTable({_COLUMN: Column("vector", values)}, len(values))


def _data(
    features: np.ndarray, items: np.ndarray, contexts: np.ndarray, num_contexts: int
) -> ItemData:
    users, own = (IdMap(pl.Series(np.arange(count))) for count in (num_contexts, len(features)))
    return ItemData("topics", Interactions(users, own, contexts, items), _features(features), {})


def _graph(folder: Path) -> ItemGraph:
    of_item, of_context = (
        Adjacency(*(_kept(folder, f"{direction} {name}") for name in _ADJACENCY))
        for direction in _DIRECTIONS
    )
    return ItemGraph(of_item, of_context, len(of_item.starts), len(of_context.starts))


def _task(folder: Path) -> Task:
    features, walked = _kept(folder, "features"), _graph(folder)
    rows = _kept(folder, "train_items"), _kept(folder, "train_contexts")
    data = _data(features, *rows, walked.num_contexts)

    pairs = CooccurrencePairs(*rows, walked.num_contexts)
    valid, test = (_held_out(*_kept(folder, part)) for part in ("valid", "test"))
    return Task(data, data.interactions, pairs, valid, test, np.ones(len(features), bool))


def _held_out(queries: np.ndarray, positives: np.ndarray) -> HeldOut:
    """A query for each pair; what is seen is the query itself."""
    rows = np.arange(len(queries))
    relevant, seen = (csr_rows(rows, one, len(rows)) for one in (positives, queries))
    return HeldOut(queries[:, None], relevant, seen)


def _prepared(folder: Path) -> Prepared:
    schema = FeatureSchema.from_json(read_json(folder / "schema.json"))
    return Prepared(
        schema=schema,
        features=_inputs(folder),
        graph=_graph(folder),
        table=_table(folder),
        structure=None,
        folds=(),
        hard=None,
        model=make_model(schema.inputs(), CONFIG),
        degree_of_none=float(schema.encode_degrees(np.zeros(1, np.int64))[0, 0]),
        notes=(),
        seconds={},
    )


def _table(folder: Path) -> NeighborTable:
    return NeighborTable(_kept(folder, "neighbors ids"), _kept(folder, "neighbors weights"))


def _inputs(folder: Path) -> dict[str, Any]:
    schema = FeatureSchema.from_json(read_json(folder / "schema.json"))
    return {one.name: _kept(folder, f"input {one.name}") for one in schema.inputs()}


def _model(folder: Path) -> Any:
    schema = FeatureSchema.from_json(read_json(folder / "schema.json"))
    return make_model(schema.inputs(), CONFIG)


def _params(folder: Path) -> Any:
    params = init_params(jax.random.key(0), _model(folder))
    # What moments there are goes by no setting.
    template = TrainState(params, make_optimizer(CONFIG, 1).init(params))
    checkpoint = load_checkpoint(folder / _CHECKPOINTS, template)
    assert checkpoint is not None
    return checkpoint.arrays.params


def _layer(folder: Path, k: int) -> Path:
    return folder / "vectors" / f"layer-{k}.npy"


def _vectors_done(folder: Path) -> list[int]:
    progress = folder / "vectors" / "progress.json"
    return read_json(progress)["rows"] if progress.exists() else []


STAGES = {
    one.__name__: one
    for one in (world, hold_out, graph, inputs, neighbors, train, embed, check, rank)
}
"""All stages by name, in their order."""


def main(stage: str, folder: str, *arguments: str) -> None:
    """Run a stage; see the module.

    Args:
        stage: its name.
        folder: of all stages.
        arguments: what it takes beside the folder, numbers.
    """
    print(json.dumps(STAGES[stage](Path(folder), *map(json.loads, arguments))))


if __name__ == "__main__":
    main(*sys.argv[1:])
