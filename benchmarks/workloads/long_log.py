"""A generated log as a cluster leaves it: Parquet files of a fixed number of rows, in no order.

Users and items are drawn by powers of uniform numbers, so that few of them have many rows, and
their ids are spread out by a multiplication, so that neither is an id a row nor a popular id low.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import polars as pl

_ROWS_OF_A_FILE = 2_000_000
# A user's rank goes with the 1.5th power of a uniform number, an item's with its third.
_USER_SKEW, _ITEM_SKEW = 1.5, 3.0
_PRIME, _FACTOR = 2_147_483_647, 48_271
_EDGES_A_NODE, _USERS_AN_ITEM = 20, 4
_SECONDS = 86_400 * 365


def write_log(folder: Path, rows: int, seed: int = 0) -> dict[str, int]:
    """Write a log of users, items and times.

    Args:
        folder: a new folder.
        rows: how many there are; a pair may stand twice.
        seed: of the draws.

    Returns:
        ``users`` and ``items`` among which rows are drawn, ``files``, and their ``bytes``.
    """
    (users, items), files = sizes_of(rows), -(-rows // _ROWS_OF_A_FILE)
    folder.mkdir(parents=True)
    for at in range(files):
        rng = np.random.default_rng([seed, at])
        count = min(_ROWS_OF_A_FILE, rows - at * _ROWS_OF_A_FILE)
        of_users, of_items = drawn_ranks(rng, count, users, items)
        frame = pl.DataFrame(
            {
                "user_id": _spread(of_users),
                "item_id": _spread(of_items),
                "timestamp": 1_700_000_000 + rng.integers(0, _SECONDS, count),
            }
        )
        frame.write_parquet(folder / f"part-{at:05}.parquet")
    size = sum(path.stat().st_size for path in folder.iterdir())
    return {"users": users, "items": items, "files": files, "bytes": size}


def sizes_of(rows: int) -> tuple[int, int]:
    """Users and items among which rows are drawn.

    Args:
        rows: of the log.
    """
    nodes = rows // _EDGES_A_NODE
    items = max(1, nodes // (1 + _USERS_AN_ITEM))
    return max(1, nodes - items), items


def drawn_ranks(
    rng: np.random.Generator, count: int, users: int, items: int
) -> tuple[np.ndarray, np.ndarray]:
    """Users and items by their ranks, the popular first, ``int64[count]`` each.

    Args:
        rng: draws.
        count: how many rows.
        users: among which.
        items: likewise.
    """
    return _ranks(rng, count, users, _USER_SKEW), _ranks(rng, count, items, _ITEM_SKEW)


def _ranks(rng: np.random.Generator, count: int, most: int, skew: float) -> np.ndarray:
    return (most * rng.random(count) ** skew).astype(np.int64)


def _spread(ranks: np.ndarray) -> np.ndarray:
    return (ranks + 1) * _FACTOR % _PRIME
