"""The arrays of a checkpoint, each process's rows written by itself and read by whoever needs them.

=====================  =====================================================================
tree.json              the arrays by their place in the pytree: shapes and types, U, I, and the
                       rows of users and of items in a chunk
00000.users, ….items   a table's rows of users and of items in the order of the nodes; a chunk
                       for each shard that wrote
00001                  any other array, whole
=====================  =====================================================================

Arrays are written and read by TensorStore, as Zarr of version 3, uncompressed. Orbax, which writes
the checkpoints of one process, can have many write too; where one of them fails, the others hear of
it when a barrier of theirs has waited for five minutes, and which bytes a process wrote it does not
say. Here an error reaches all at once, and every process sums up the bytes that are its own.
"""

from __future__ import annotations

import errno
import functools
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from lightgcn_jax.arrays import default_device
from lightgcn_jax.errors import InputError, first_line
from lightgcn_jax.fields import SWITCH, TEXT, document, list_of, record, whole
from lightgcn_jax.files import sha256
from lightgcn_jax.json_files import read_json, write_json
from lightgcn_jax.models.model import map_tables
from lightgcn_jax.processes.agreement import is_first
from lightgcn_jax.processes.placing import own_shards
from lightgcn_jax.sharding.layout import Layout
from lightgcn_jax.sharding.mesh import MODEL

SHARDS = "shards"
"""The folder in a checkpoint."""

_TREE, _SIDES = "tree.json", ("users", "items")
_COUNT = whole(0, None)
_ARRAY = record({"name": TEXT, "shape": list_of(_COUNT), "dtype": TEXT, "table": SWITCH})
_SAID = record(
    {
        "arrays": list_of(_ARRAY),
        "rows": record(dict.fromkeys(_SIDES, _COUNT)),
        "chunk": record(dict.fromkeys(_SIDES, whole(1, None))),
    }
)


class _Leaf(NamedTuple):
    """An array of the pytree.

    Attributes:
        name: its place in the pytree.
        shape: of a table with a row for each node.
        dtype: the name of its type.
        table: whether it has a row for each node, in the last axis but one.
    """

    name: str
    shape: list[int]
    dtype: str
    table: bool


def create(folder: Path, arrays: Any, layout: Layout) -> None:
    """Say what is going to lie in a folder, before any process writes.

    Args:
        folder: a new folder.
        arrays: pytree of arrays as the layout lays them out.
        layout: where tables lie.
    """
    folder.mkdir()
    leaves = _leaves(arrays, layout.num_nodes)
    rows, chunk = _sizes(layout)
    said = {"arrays": [one._asdict() for one in leaves], "rows": rows, "chunk": chunk}
    write_json(folder / _TREE, said)
    for number, leaf in enumerate(leaves):
        if not leaf.table:
            _open(folder / f"{number:05}", leaf.shape, leaf.shape, leaf.dtype)
        for side in _SIDES if leaf.table else ():
            shape, chunks = (_of_side(leaf, one[side]) for one in (rows, chunk))
            _open(folder / f"{number:05}.{side}", shape, chunks, leaf.dtype)


def write_own(folder: Path, arrays: Any, layout: Layout) -> dict[str, str]:
    """Write the rows of this process's shards, and by the first process what no shard has.

    Args:
        folder: that :func:`create` has made.
        arrays: pytree of arrays as the layout lays them out.
        layout: where tables lie.

    Returns:
        The sums of the files that were written, by their names within the folder.

    Raises:
        OSError: the disk refused.
    """
    leaves = zip(_leaves(arrays, layout.num_nodes), jax.tree.leaves(arrays), strict=True)
    sums: dict[str, str] = {}
    try:
        for number, (leaf, array) in enumerate(leaves):
            name = f"{number:05}"
            if not leaf.table:
                if is_first():
                    _write(folder / name, ..., np.asarray(array.addressable_data(0)))
                    sums |= sums_within(folder, name)
                continue
            for shard in array.addressable_shards:
                if shard.replica_id == 0:  # the same rows may lie along the axis of data
                    at = (shard.index[-2].start or 0) // layout.rows_a_shard
                    for side in _write_rows(folder / name, np.asarray(shard.data), layout, at):
                        file = _chunk(f"{name}.{side}", leaf, at)
                        sums[file] = sha256(folder / file)
    except Exception as error:  # TensorStore raises this or that
        message = f"checkpoint could not be written: {first_line(error)}"
        raise OSError(errno.EIO, message, str(folder)) from error
    return sums


def sums_within(folder: Path, within: str = "") -> dict[str, str]:
    """The sums of all files, by their names within a folder.

    Args:
        folder: of the arrays.
        within: a folder in it; all of it by default.
    """
    files = (path for path in sorted((folder / within).rglob("*")) if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path) for path in files}


def _write_rows(path: Path, rows: np.ndarray, layout: Layout, shard: int) -> Iterator[str]:
    """Write a shard's rows of a table; the sides of which it has any."""
    at, first = 0, 0
    bounds = zip(_SIDES, layout.nodes_of(shard), _sizes(layout)[0].values(), strict=True)
    for side, (start, stop, each), count in bounds:
        if stop > start:
            own = rows[..., at : at + stop - start, :]
            _write(path.with_name(f"{path.name}.{side}"), _rows(start - first, stop - first), own)
            yield side
        at, first = at + each, first + count


def names_read(folder: Path, layout: Layout) -> set[str]:
    """The files that this process reads to have the rows of its shards, by their names within.

    Args:
        folder: of the arrays.
        layout: where tables are going to lie; another one than that which was written, perhaps.
    """
    leaves, _, chunk = _said(folder)
    found, (rows, _) = {_TREE}, _sizes(layout)
    for number, leaf in enumerate(leaves):
        name = f"{number:05}"
        if not leaf.table:
            found |= {path.relative_to(folder).as_posix() for path in (folder / name).rglob("*")}
        for shard in own_shards(layout.mesh, MODEL) if leaf.table else ():
            first = 0
            for side, (start, stop, _) in zip(_SIDES, layout.nodes_of(shard), strict=True):
                found.add(f"{name}.{side}/zarr.json")
                for at in range((start - first) // chunk[side], -(-(stop - first) // chunk[side])):
                    found.add(_chunk(f"{name}.{side}", leaf, at))
                first += rows[side]
    return found


def read(folder: Path, template: Any, layout: Layout | None) -> Any:
    """The arrays, laid out; of tables a process reads the rows of its own shards.

    Args:
        folder: of the arrays.
        template: pytree of arrays or ``jax.ShapeDtypeStruct`` as one device has them.
        layout: where they are going to lie; None for one device.

    Raises:
        InputError: they are other arrays.
    """
    stored, rows, _ = _said(folder)
    wanted = _leaves(template)
    for one in range(max(len(wanted), len(stored))):
        asked, found = (they[one : one + 1] for they in (wanted, stored))
        if asked != found:
            raise InputError(
                f"{folder.parent}: the checkpoint holds other arrays than this run's settings and "
                f"optimizer have: expected {_shown(asked)}, got {_shown(found)}"
            )
    if layout is not None and rows != _sizes(layout)[0]:
        expected = _sizes(layout)[0]
        raise InputError(f"{folder.parent}: expected tables of {expected}, got {rows}")
    for leaf in wanted:
        if leaf.table and leaf.shape[-2] != sum(rows.values()):
            raise InputError(
                f"{folder.parent}: expected tables of {leaf.shape[-2]} rows, got {rows}"
            )
    structure = jax.tree.structure(template)
    if layout is None:
        place = jax.sharding.SingleDeviceSharding(default_device())
        places = [jax.ShapeDtypeStruct(one.shape, one.dtype, sharding=place) for one in wanted]
    else:
        places = jax.tree.leaves(layout.described(template))
    try:
        made = [
            _placed(folder / f"{number:05}", leaf, rows, place, layout)
            for number, (leaf, place) in enumerate(zip(wanted, places, strict=True))
        ]
    except ValueError as error:  # as TensorStore raises whatever is wrong
        what = first_line(error)
        raise InputError(f"{folder.parent}: the checkpoint cannot be read: {what}") from error
    return jax.tree.unflatten(structure, made)


def laid_out(arrays: Any, layout: Layout) -> bool:
    """Whether arrays lie on a mesh already.

    Args:
        arrays: pytree of arrays.
        layout: the mesh's.
    """
    first = jax.tree.leaves(arrays)[0]
    mesh = getattr(getattr(first, "sharding", None), "mesh", None)
    return mesh == layout.mesh


def _placed(
    path: Path, leaf: _Leaf, rows: dict[str, int], place: Any, layout: Layout | None
) -> jax.Array:
    def make(part: Any) -> jax.Array:
        return jax.make_array_from_callback(place.shape, place.sharding, part)

    if not leaf.table:
        value = _read(path, ..., leaf.shape, leaf.dtype)
        return make(lambda at: value[at])
    sides = [path.with_name(f"{path.name}.{side}") for side in _SIDES]
    if layout is None:
        table = np.concatenate(
            [
                _read(side, ..., _of_side(leaf, rows[name]), leaf.dtype)
                for name, side in zip(_SIDES, sides, strict=True)
            ],
            axis=-2,
        )
        return make(lambda at: table[at])

    @functools.cache
    def of_shard(shard: int) -> np.ndarray:
        assert layout is not None
        shape = *leaf.shape[:-2], layout.rows_a_shard, leaf.shape[-1]
        part, at, first = np.zeros(shape, place.dtype), 0, 0
        for side, (start, stop, each), count in zip(
            sides, layout.nodes_of(shard), rows.values(), strict=True
        ):
            if stop > start:
                at_rows, of_side = _rows(start - first, stop - first), _of_side(leaf, count)
                read_rows = _read(side, at_rows, of_side, leaf.dtype)
                part[..., at : at + stop - start, :] = read_rows
            at, first = at + each, first + count
        return part

    return make(lambda at: of_shard((at[-2].start or 0) // layout.rows_a_shard))


def _leaves(arrays: Any, nodes: int | None = None) -> list[_Leaf]:
    """What is said of each array of a pytree; tables on a mesh are said to have so many rows."""
    is_table = jax.tree.leaves(map_tables(lambda _: True, jax.tree.map(lambda _: False, arrays)))
    found = []
    for (path, leaf), table in zip(
        jax.tree_util.tree_flatten_with_path(arrays)[0], is_table, strict=True
    ):
        shape = [int(size) for size in leaf.shape]
        if table and nodes is not None:
            shape[-2] = nodes
        found.append(_Leaf(jax.tree_util.keystr(path), shape, str(leaf.dtype), bool(table)))
    return found


def _sizes(layout: Layout) -> tuple[dict[str, int], dict[str, int]]:
    """Rows of users and of items in all, and on a shard."""
    counts = layout.num_users, layout.num_items
    each = (max(1, each) for _, _, each in layout.nodes_of(0))
    return dict(zip(_SIDES, counts, strict=True)), dict(zip(_SIDES, each, strict=True))


def _said(folder: Path) -> tuple[list[_Leaf], dict[str, int], dict[str, int]]:
    said = document(folder / _TREE, read_json(folder / _TREE), _SAID)
    return [_Leaf(**one) for one in said["arrays"]], said["rows"], said["chunk"]


def _shown(leaf: list[_Leaf]) -> str:
    return f"{leaf[0].name} {leaf[0].dtype}{leaf[0].shape}" if leaf else "no more"


def _of_side(leaf: _Leaf, rows: int) -> list[int]:
    return [*leaf.shape[:-2], rows, leaf.shape[-1]]


def _chunk(name: str, leaf: _Leaf, number: int) -> str:
    """The file of a table's chunk."""
    return "/".join([name, "c", *["0"] * (len(leaf.shape) - 2), str(number), "0"])


def _rows(start: int, stop: int) -> tuple:
    return ..., slice(start, stop), slice(None)


def _write(path: Path, at: Any, values: np.ndarray) -> None:
    _open(path)[at].write(values).result()


def _read(path: Path, at: Any, shape: list[int], dtype: str) -> np.ndarray:
    array = _open(path)
    if list(array.shape) != shape or array.dtype.name != dtype:
        found = f"{array.dtype.name}{list(array.shape)}"
        raise InputError(f"{path}: expected {dtype}{shape}, got {found}")
    return np.asarray(array[at].read().result())


def _open(
    path: Path, shape: list[int] | None = None, chunk: list[int] | None = None, dtype: str = ""
) -> Any:
    """An array of TensorStore; made where a shape is given."""
    import tensorstore as ts  # it takes a while, and few commands need it

    spec: dict[str, Any] = {
        "driver": "zarr3",
        "kvstore": {"driver": "file", "path": str(path.absolute())},
        # A chunk of zeros is a file like any other, which has a sum.
        "store_data_equal_to_fill_value": True,
    }
    if shape is None or chunk is None:
        return ts.open(spec, open=True).result()
    grid = {"name": "regular", "configuration": {"chunk_shape": [max(1, one) for one in chunk]}}
    spec["metadata"] = {
        "shape": shape,
        "data_type": dtype,
        "chunk_grid": grid,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    }
    return ts.open(spec, create=True).result()
