"""Finished runs, opened to be evaluated, or to be served and to take new items."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lightgcn_jax.data.pairs import check_rows
from lightgcn_jax.errors import InputError
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.all_items import ItemVectors
from pinsage_jax.encoder.pinsage import PinSage, init_params, make_model, model_inputs
from pinsage_jax.features.bags import TextEncoders
from pinsage_jax.features.columns import Kind
from pinsage_jax.features.schema import FeatureSchema
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.graph.structure import Structure
from pinsage_jax.runs.directory import PinSageRun, reading
from pinsage_jax.runs.fit import Fit
from pinsage_jax.runs.kept_items import read_added, state_of, write_added
from pinsage_jax.runs.stored_task import load_task, read_structure, read_table
from pinsage_jax.serving.live_items import LiveItems
from pinsage_jax.tasks.task import Task

# Rows of vectors that are looked at in one go.
_BLOCK = 1 << 16


class FinishedRun(NamedTuple):
    """Everything that an evaluation reads of a run.

    Attributes:
        config: the settings that the run was trained with.
        task: the pairs that it was trained on, and those that were held out.
        schema: how its features are encoded.
        model: the encoder.
        params: the encoder's parameters after the best epoch.
        items: vectors of all R items of its data, and the layers below them.
        structure: what items' structure is made of; None where the encoder reads none.
    """

    config: PinSageConfig
    task: Task
    schema: FeatureSchema
    model: PinSage
    params: Any
    items: ItemVectors
    structure: Structure | None

    @classmethod
    def of(cls, result: Fit) -> FinishedRun:
        """Take a run from memory.

        Args:
            result: what :func:`pinsage_jax.runs.fit.fit` returned.
        """
        prepared = result.prepared
        return cls(
            result.config,
            result.task,
            prepared.schema,
            prepared.model,
            result.params,
            result.items,
            prepared.structure,
        )

    @property
    def vectors(self) -> np.ndarray:
        """``float32[R, D]``, z of all items."""
        return np.asarray(self.items.vectors)

    @property
    def pool(self) -> np.ndarray:
        """``int32[n]``, the rows of the training items, which are the ones that are ranked."""
        return np.flatnonzero(self.task.train_items).astype(np.int32)


def read_finished(path: Path) -> FinishedRun:
    """Open a finished run to evaluate it.

    Args:
        path: the run directory.

    Raises:
        InputError: the directory holds no finished run or a damaged one.
    """
    run = PinSageRun.open(path)
    run.summary  # noqa: B018, refuses a run that is not finished
    config, schema = run.config, run.read_schema()
    items = read_vectors(run, config)
    model, params = read_model(run, config, schema, len(items.vectors))
    structure = read_structure(run, config)
    return FinishedRun(config, load_task(run), schema, model, params, items, structure)


def open_items(
    path: Path, *, slack: int = 1024, text_encoders: TextEncoders | None = None
) -> LiveItems:
    """Open all items of a finished run, those added later included, with room for more.

    Args:
        path: the run directory.
        slack: how many new items there is room for, beside those that were added before.
        text_encoders: by text column, the functions that the run's features were encoded with.

    Raises:
        InputError: the directory holds no finished run or a damaged one.
    """
    run = PinSageRun.open(path)
    run.summary  # noqa: B018, refuses a run that is not finished
    config, schema = run.config, run.read_schema()
    items, contexts = run.read_ids("items"), run.read_ids("contexts")
    model, params = read_model(run, config, schema, len(items))
    kinds: dict[str, Kind] = {one.name: one.kind for one in schema.columns}
    state = state_of(run.fresh)
    before = read_added(run, items, kinds, max(1, config.layers) + 1)
    live = LiveItems(
        model=model,
        params=params,
        config=config,
        schema=schema,
        items=items,
        contexts=contexts,
        edges=_read_edges(run, len(items), len(contexts)),
        embedded=read_vectors(run, config),
        structure=read_structure(run, config),
        features=lambda: read_table(run),
        slack=slack + (0 if before is None else len(before[2])),
        text_encoders=text_encoders,
    )
    if before is not None:
        live.restore(*before)
    live.stored = state
    return live


def features_of(path: Path, live: LiveItems) -> FeatureTable:
    """The features of all items; of those added later what the run reads.

    Args:
        path: the run directory.
        live: its items.
    """
    features = read_table(PinSageRun.open(path))
    if live.added is None:
        return features
    unknown = features.take(np.full(len(live.added), -1))
    columns = {**unknown.columns, **live.added.table.columns}
    return features.followed_by(FeatureTable(columns, len(live.added)))


def _read_edges(
    run: PinSageRun, num_items: int, num_contexts: int
) -> tuple[np.ndarray, np.ndarray]:
    """The edges that are walked, ``int32[E]`` item rows and context rows."""
    arrays = run.read_arrays("task")
    with reading(run.path / "task.safetensors"):
        edges = arrays["item_rows"], arrays["context_rows"]
        check_rows("item_rows", edges[0], num_items)
        check_rows("context_rows", edges[1], num_contexts)
        if len(edges[0]) != len(edges[1]):
            raise InputError("item_rows and context_rows: expected equal lengths")
    return edges


def keep_added(path: Path, live: LiveItems) -> None:
    """Write all items that were added to a run, so that it is served with them from now on.

    Args:
        path: the run directory.
        live: its items, as :func:`open_items` opened them, and ``add``, ``update`` and ``remove``
            changed them.

    Raises:
        InputError: another process has changed the added items since the run was opened.
    """
    run = PinSageRun.open(path)
    known = len(run.read_ids("items"))
    rows = np.arange(known, len(live.items))
    with run.held():
        run.fresh.mkdir(exist_ok=True)
        if state_of(run.fresh) != live.stored:
            raise InputError(f"{path}: added items were changed meanwhile; open the run again")
        ids = live.items.ids.slice(known)
        write_added(run, ids, live.layer_rows(rows), live.added)
        live.stored = state_of(run.fresh)


def read_model(
    run: PinSageRun, config: PinSageConfig, schema: FeatureSchema, num_items: int
) -> tuple[PinSage, Any]:
    """Read the encoder of a finished run, and the parameters of its best epoch.

    Args:
        run: the run.
        config: its settings.
        schema: how its features are encoded.
        num_items: I, the items that it was trained with.

    Raises:
        InputError: the file of the parameters is missing, or holds others.
    """
    model = make_model(model_inputs(schema, config, num_items), config)
    template = jax.eval_shape(lambda: init_params(jax.random.key(0), model))
    return model, run.read_params(template)


def read_vectors(run: PinSageRun, config: PinSageConfig) -> ItemVectors:
    """Read the layers and vectors that a finished run wrote; they stay on disk, memory-mapped.

    Args:
        run: the run.
        config: its settings.

    Raises:
        InputError: a file is missing or damaged.
    """
    rows = len(run.read_ids("items"))
    arrays = []
    for step in range(max(1, config.layers) + 1):
        arrays.append(map_layer(run, config, step, rows))
        for start in range(0, rows, _BLOCK):
            check_finite(arrays[-1], slice(start, start + _BLOCK))
    return ItemVectors(tuple(arrays[:-1]), arrays[-1])


def map_layer(run: PinSageRun, config: PinSageConfig, step: int, num_items: int) -> np.memmap:
    """Map a layer of all items that a finished run wrote; numbers are not looked at.

    Args:
        run: the run.
        config: its settings.
        step: 0 for h⁰, and so on; the last one holds the vectors.
        num_items: R, the items of the run's data.

    Raises:
        InputError: the file is missing, damaged, or of another shape.
    """
    path = run.sums.checked(f"{run.vectors.name}/layer-{step}.npy", mapped=True)
    try:
        layer = np.load(path, mmap_mode="r", allow_pickle=False)
    except Exception as error:  # the header is parsed as Python, which can fail in any way
        found = "nothing" if isinstance(error, FileNotFoundError) else "a damaged file"
        raise InputError(f"{path}: expected the vectors of a finished run, got {found}") from error
    is_last = step == max(1, config.layers)
    shape = num_items, config.dim + (config.structure if is_last else 0)
    if layer.shape != shape or layer.dtype != np.float32:
        raise InputError(
            f"{path}: expected float32{list(shape)}, got {layer.dtype}{list(layer.shape)}"
        )
    return layer


def check_finite(layer: np.memmap, rows: slice) -> None:
    """Refuse vectors that nothing can be ranked by; some rows at a time, for they lie on disk.

    Args:
        layer: what :func:`map_layer` mapped.
        rows: which of its rows.

    Raises:
        InputError: there is a number that is not finite.
    """
    fine = np.isfinite(layer[rows]).all(axis=1)
    if not fine.all():
        row = rows.start + int((~fine).argmax())
        raise InputError(f"{layer.filename}: expected finite numbers, got others in row {row}")
