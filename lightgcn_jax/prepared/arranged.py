"""Pairs and their parts on disk -> rows in the order of training, and CSR both ways.

Rows come into the canonical order of the split, in which no name and no order of a file has a say,
and then, if asked for, by falling degree, or dealt out.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from lightgcn_jax.data.canonical import canonical_order
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TRAIN
from lightgcn_jax.data.pairs import PARTS, new_rows, pair_keys
from lightgcn_jax.files import replacing
from lightgcn_jax.graph.ordering import dealt
from lightgcn_jax.meter import Meter
from lightgcn_jax.prepared.pairs_files import PairFiles
from lightgcn_jax.prepared.sorting import KEY, merged, read_runs, write_run
from lightgcn_jax.prepared.stored_columns import Sliced, StoredColumn, column_writer, write_npy

BY_USER, BY_ITEM = "items-of-user", "users-of-item"
"""The two ways in which pairs are stored, by the names of their files."""

PARTS_DEALT = 256
"""Parts that rows are dealt out over; shards of a mesh take as many of them each, or about."""
_LEAST_DEALT = 16
"""Rows of a part, of graphs so small that there are fewer parts."""

_INT64 = {KEY: np.dtype(np.int64)}


def write_order(
    pairs: PairFiles,
    codes: StoredColumn,
    ids: tuple[IdMap, IdMap],
    ordering: str,
    size: int,
    folder: Path,
    meter: Meter,
) -> None:
    """Write where each row goes: ``users-order.npy`` and ``items-order.npy``, the old row of each.

    Args:
        pairs: the pairs, all of which are in a part.
        codes: the part of each.
        ids: of users and items.
        ordering: ``degree``, rows of many training pairs first; ``dealt``, these dealt out over
            :data:`PARTS_DEALT` consecutive parts; or ``none``.
        size: pairs of a block.
        folder: where to.
        meter: receives progress.
    """
    meter.started("ordering rows", len(pairs), "pairs")
    users, items = pairs.sliced("user"), pairs.sliced("item")
    orders = canonical_order(*ids, users, items, Sliced(codes))
    if ordering != "none":
        degrees = [np.zeros(len(known), np.int64) for known in ids]
        for block, part in pairs.parted(codes, size):
            for kind, counts in zip(("user", "item"), degrees, strict=True):
                counts += np.bincount(block[kind][part == TRAIN], minlength=len(counts))
        most = PARTS_DEALT if ordering == "dealt" else 1
        orders = [
            order[dealt(counts[order], max(1, min(most, len(order) // _LEAST_DEALT)))]
            for order, counts in zip(orders, degrees, strict=True)
        ]
    for name, order in zip(("users", "items"), orders, strict=True):
        write_npy(folder / f"{name}-order.npy", order.astype(np.int32))
    meter.advanced(len(pairs))


def read_order(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """The orders that :func:`write_order` wrote.

    Args:
        folder: where they lie.
    """
    try:
        users, items = (np.load(folder / f"{name}-order.npy") for name in ("users", "items"))
    except OSError:
        raise
    except Exception as error:  # the header is parsed as Python, which can fail in any way
        raise ValueError(f"{folder}: damaged order of rows") from error
    return users, items


def write_rows(
    pairs: PairFiles,
    codes: StoredColumn,
    orders: tuple[np.ndarray, np.ndarray],
    held: Mapping[str, int],
    size: int,
    folder: Path,
    out: Path,
    meter: Meter,
) -> None:
    """Write the rows of users of every part, and the rows of items of train.

    Args:
        pairs: the pairs, all of which are in a part.
        codes: the part of each.
        orders: the old row of the user and of the item at each new row.
        held: pairs of each part.
        size: pairs of a block.
        folder: for runs.
        out: where to.
        meter: receives progress.
    """
    new = [
        new_rows(kind, order, len(order))
        for kind, order in zip(("users", "items"), orders, strict=True)
    ]
    targets = [(part, BY_USER) for part in PARTS] + [(PARTS[TRAIN], BY_ITEM)]
    steps = len(pairs) + sum(held[part] for part, _ in targets)
    meter.started("writing rows", steps, "pairs")
    names: dict[tuple[str, str], list[str]] = {target: [] for target in targets}
    done = 0
    for at, (block, code) in enumerate(pairs.parted(codes, size)):
        rows = [one[block[kind]] for kind, one in zip(("user", "item"), new, strict=True)]
        for part, way in targets:
            name = f"{part}-{way}-{at:06}"
            names[part, way].append(name)
            if not (folder / f"{name}.{KEY}").exists():
                here = code == PARTS.index(part)
                ends = rows if way == BY_USER else rows[::-1]
                write_run(folder, name, {KEY: np.sort(pair_keys(*(one[here] for one in ends)))})
        done += len(code)
        meter.advanced(done)
    for part, way in targets:
        runs = read_runs(folder, names[part, way], _INT64)
        lengths = np.zeros(len(orders[0] if way == BY_USER else orders[1]), np.int64)
        with column_writer(out / f"{part}-{way}.npy", np.int32, held[part]) as columns:
            for block in merged(runs, size):
                keys = block[KEY]
                lengths += np.bincount(keys >> 32, minlength=len(lengths))
                columns.add(keys & 0xFFFFFFFF)
                done += len(keys)
                meter.advanced(done)
        offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
        write_npy(out / f"{part}-{way}-offsets.npy", offsets)


def write_final_ids(
    ids: tuple[IdMap, IdMap], orders: tuple[np.ndarray, np.ndarray], out: Path
) -> None:
    """Write the external ids in the order of the rows.

    Args:
        ids: of users and items.
        orders: the old row of each new row.
        out: where to.
    """
    for name, known, order in zip(("users", "items"), ids, orders, strict=True):
        with replacing(out / f"{name}.parquet") as temporary:
            known.ids.gather(order).alias("id").to_frame().write_parquet(temporary)
