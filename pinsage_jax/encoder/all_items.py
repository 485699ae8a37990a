"""Vectors of all items, layer by layer: every intermediate is computed once.

A mini-batch recomputes the neighbours that another mini-batch has computed; over a whole catalogue
that repeats each of them once for every item it is important to. Here layer k of all items is
finished before layer k + 1 begins (the idea of the paper's MapReduce pipeline, section 3.4): the
messages ReLU(Q h + q) once an item, then a chunk of rows after another gathers them. The result is
that of the mini-batch path on the same neighbours, to floating-point tolerance.

With a folder, each layer is a ``.npy`` file, of which memory holds a chunk, and the messages of one
layer; ``progress.json`` says how far it is, so that a killed run goes on at the chunk that it had
begun.
"""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np
from jax.sharding import Mesh

from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import TEXT, document, list_of, record, whole
from lightgcn_jax.json_files import read_json, write_json
from lightgcn_jax.processes.agreement import gathered, is_first, several, telling
from pinsage_jax.encoder.by_chunks import OneDevice, OnMesh
from pinsage_jax.encoder.pinsage import STRUCTURE, PinSage
from pinsage_jax.graph.neighborhoods import NeighborTable

_CHUNK = 8_192
_PROGRESS = "progress.json"
_KEPT = record({"fingerprint": TEXT, "rows": list_of(whole(0))})


class ItemVectors(NamedTuple):
    """Vectors of all items, and the layers below them.

    Attributes:
        layers: h⁰ … h^{K−1}, ``float32[R, D]`` each, which a new item's neighbours contribute.
        vectors: z, ``float32[R, D']``, where D' is wider than D by the structure.
    """

    layers: tuple[np.ndarray, ...]
    vectors: np.ndarray


def embed_all(
    model: PinSage,
    params: Any,
    features: dict[str, np.ndarray],
    table: NeighborTable,
    *,
    chunk: int = _CHUNK,
    out: Path | None = None,
    advanced: Callable[[float], None] | None = None,
    mesh: Mesh | None = None,
    vectors_alone: bool = False,
) -> ItemVectors:
    """Embed all R items.

    Args:
        model: the encoder.
        params: its parameters.
        features: encoded, of all items, on the host, by input.
        table: neighbours of all items.
        chunk: how many rows are computed at a time, which bounds the memory that a layer takes.
        out: a folder for the layers. What the same model, parameters, features and neighbours have
            left there is taken up. None keeps everything in memory.
        advanced: called with the share that is done after every chunk.
        mesh: devices among which the rows of a chunk are divided, with the axes data and model; the
            messages of all items lie in shares on them where ``model`` is longer than 1, else whole
            on each. None for one device.
        vectors_alone: whether to let a layer in memory go when the next one is there; what is
            returned then has no layers.

    Raises:
        InputError: the folder holds the layers of something else.
    """
    rows = table.ids.shape[0]
    # Without layers the head alone follows the features.
    steps = max(1, model.layers) + 1
    widths = [model.dim] * (steps - 1) + [model.width]
    given = model, params, chunk
    by_chunks = OneDevice(*given) if mesh is None else OnMesh(*given, mesh)
    chunk = by_chunks.chunk
    # Of several processes the first one writes.
    store = _Store(out if is_first() else None, rows, widths, chunk)
    with telling():
        if out is not None and is_first():
            store.open(_fingerprint(model, params, features, table))
    gathered()

    def rows_of(step: int) -> Callable[[slice], np.ndarray]:
        if step == 0:
            return lambda part: by_chunks.encode(_filled_all(features, part, chunk))
        if model.layers:
            below = functools.partial(store.read, step - 1)
            messages = by_chunks.messages(below, step - 1, rows)
            near = np.asarray(table.ids), np.asarray(table.weights)

            def top(part: slice) -> Any:
                own = _filled(below(part), chunk), *_filled_all(near, part, chunk)
                return by_chunks.convolve(own, messages, step - 1)
        else:

            def top(part: slice) -> Any:
                return by_chunks.rows(_filled(store.read(0, part), chunk))

        if step < steps - 1:
            return lambda part: by_chunks.taken(top(part))
        structure = {STRUCTURE: features[STRUCTURE]} if model.structure else {}
        return lambda part: by_chunks.head(top(part), _filled_all(structure, part, chunk))

    for step in range(steps):
        with telling():
            store.begin(step)
        gathered()
        if store.unfinished(step):
            compute = rows_of(step)
            for part in store.chunks(step):
                store.write(step, part, compute(part)[: part.stop - part.start])
                if advanced is not None:
                    advanced((step + part.stop / rows) / steps)
            del compute  # and with it the messages, before those of the next layer are made
        if vectors_alone and step:
            store.let_go(step - 1)
    kept = range(steps - 1, steps) if vectors_alone else range(steps)
    *layers, vectors = (store.read(step, slice(rows)) for step in kept)
    return ItemVectors(tuple(layers), vectors)


def _filled_all(arrays: Any, part: slice, rows: int) -> Any:
    return jax.tree.map(lambda values: _filled(values[part], rows), arrays)


def _filled(values: np.ndarray, rows: int) -> np.ndarray:
    """The last chunk is filled up, so that one program serves all."""
    return np.pad(values, ((0, rows - len(values)), (0, 0)), mode="edge")


class _Store:
    """The layers of all items: arrays in memory, or files and how far they are written."""

    def __init__(self, folder: Path | None, rows: int, widths: list[int], chunk: int):
        self._folder, self._rows, self._widths, self._chunk = folder, rows, widths, chunk
        self._done = [0] * len(widths)
        self._fingerprint = ""
        self._layers: list[np.ndarray] = []

    def open(self, fingerprint: str) -> None:
        assert self._folder is not None
        self._folder.mkdir(parents=True, exist_ok=True)
        self._fingerprint = fingerprint
        progress = self._folder / _PROGRESS
        if not progress.exists():
            # A kill while the first progress is written leaves its temporary file.
            own = f".{_PROGRESS}."
            if any(not one.name.startswith(own) for one in self._folder.iterdir()):
                raise InputError(f"{self._folder}: expected a new or empty folder for the vectors")
            self._write_progress()
            return
        kept = document(progress, read_json(progress), _KEPT)
        if kept["fingerprint"] != fingerprint:
            raise InputError(
                f"{self._folder}: holds the vectors of another model, other parameters, features "
                "or neighbours; choose another folder, or remove it"
            )
        if len(kept["rows"]) != len(self._widths) or max(kept["rows"]) > self._rows:
            raise InputError(
                f"{progress}: rows: expected {len(self._widths)} numbers up to {self._rows}, "
                f"got {kept['rows']}"
            )
        self._done = kept["rows"]
        if several():
            # The others know nothing of what this one has written: all of it is made anew.
            self._done = [0] * len(self._widths)
            self._write_progress()

    def begin(self, step: int) -> None:
        """Make room for a layer, where a killed process has left none."""
        shape = self._rows, self._widths[step]
        if self._folder is None:
            self._layers.append(np.empty(shape, np.float32))
        elif not self._done[step]:
            _reserve(self._path(step), shape)
        elif (kept := self.read(step, slice(None))).shape != shape or kept.dtype != np.float32:
            raise InputError(
                f"{self._path(step)}: expected float32{list(shape)}, "
                f"got {kept.dtype}{list(kept.shape)}"
            )

    def unfinished(self, step: int) -> bool:
        """Whether rows of a layer are left to compute."""
        return self._done[step] < self._rows

    def chunks(self, step: int) -> Iterator[slice]:
        """The rows that are left to compute of a layer."""
        for start in range(self._done[step], self._rows, self._chunk):
            yield slice(start, min(start + self._chunk, self._rows))

    def read(self, step: int, part: slice) -> np.ndarray:
        """Some rows of a layer; of a file, mapped as long as they are held."""
        if self._folder is None:
            return self._layers[step][part]
        return np.lib.format.open_memmap(self._path(step), mode="r")[part]

    def write(self, step: int, part: slice, rows: np.ndarray) -> None:
        """Keep the next rows of a layer."""
        self._done[step] = part.stop
        if self._folder is None:
            self._layers[step][part] = rows
            return
        # What is read or written through a mapping is in memory until the mapping goes.
        layer = np.lib.format.open_memmap(self._path(step), mode="r+")
        layer[part] = rows
        layer.flush()
        self._write_progress()

    def let_go(self, step: int) -> None:
        """Free the memory of a layer; its file stays."""
        if self._folder is None:
            self._layers[step] = self._layers[step][:0].copy()

    def _path(self, step: int) -> Path:
        assert self._folder is not None
        return self._folder / f"layer-{step}.npy"

    def _write_progress(self) -> None:
        assert self._folder is not None
        write_json(self._folder / _PROGRESS, {"fingerprint": self._fingerprint, "rows": self._done})


def _reserve(path: Path, shape: tuple[int, int]) -> None:
    """Make an array of zeros in a file that has all its bytes: where the disk is full that is said
    here, and not by a signal when a page of a sparse file is first touched."""
    np.lib.format.open_memmap(path, mode="w+", dtype=np.float32, shape=shape)
    if hasattr(os, "posix_fallocate"):
        opened = os.open(path, os.O_RDWR)
        try:
            os.posix_fallocate(opened, 0, os.fstat(opened).st_size)
        except OSError as error:
            raise OSError(error.errno, error.strerror, str(path)) from error
        finally:
            os.close(opened)


def _fingerprint(
    model: PinSage, params: Any, features: dict[str, np.ndarray], table: NeighborTable
) -> str:
    """What the vectors depend on, as one number: the model's settings and all arrays by name."""
    digest = hashlib.sha256()
    settings = {
        field.name: getattr(model, field.name)
        for field in dataclasses.fields(model)
        if field.name not in ("parent", "name")
    }
    digest.update(repr(settings).encode())
    for path, leaf in jax.tree_util.tree_leaves_with_path((params, features, table)):
        array = np.ascontiguousarray(leaf)
        digest.update(f"{jax.tree_util.keystr(path)}{array.dtype}{array.shape}".encode())
        digest.update(array.data)
    return digest.hexdigest()
