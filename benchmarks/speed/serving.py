"""Serving by size of the catalogue: the best 100 for known and new users, exact and approximate.

Vectors are made: items lie around centres and differ in length, users lie around the same centres.
The largest catalogue stays on the disk, mapped. Beside ours, in the same rounds, stand the product
of queries and items alone, in blocks as large as ranking takes them, and NumPy's product and
partition. A new user has twenty items; their vector is made of these first, which of a mapped
catalogue were read from the disk before. What one request takes is the time of its batch; requests
a second are those of whole batches, one after another. The peak of memory counts the pages of the
mapped file that the system holds.
"""

from __future__ import annotations

import argparse
import gc
import itertools
import statistics
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from rich.table import Table

from benchmarks.harness.process import own_peak_gb, reset_own_peak
from benchmarks.harness.report import Claim, Report, cores, note, seconds_text, whole_number
from lightgcn_jax.diffusion.storage import exact_product
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.files import scratch_folder
from lightgcn_jax.serving import Index
from lightgcn_jax.serving.fold_in import Making, fold_in_of

_DIM, _K, _USERS, _LIKED = 64, 100, 2_048, 20
_TARGET_RECALL, _MEASURED_ON = 0.95, 256
_MAPPED_FROM = 4_000_000
_BLOCK_SCORES = 4_000_000
_ROWS_AT_ONCE = 1 << 20
_MOST_SAMPLES, _LEAST_SAMPLES = 300, 3
# NumPy's partition of so many scores for a batch takes longer than all else together.
_MOST_SCORES_OF_NUMPY = 300_000_000

_Batches = list[list[np.ndarray]]


class World(NamedTuple):
    """Vectors of a size.

    Attributes:
        items: ``float32[I, 64]``, from a file where they are many.
        users: ``float32[2048, 64]``.
    """

    items: np.ndarray
    users: np.ndarray


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks serving``.
    """
    parser.add_argument(
        "--items",
        nargs="+",
        type=whole_number,
        default=[100_000, 1_000_000, 10_000_000],
        help="sizes of the catalogue (default: 100,000, 1 million, 10 million)",
    )
    parser.add_argument(
        "--batches",
        nargs="+",
        type=whole_number,
        default=[1, 256],
        help="users of a request (default: 1 256)",
    )
    parser.add_argument(
        "--seconds",
        type=whole_number,
        default=5,
        help="seconds that a contender is measured, after which it has at least "
        f"{_LEAST_SAMPLES} samples and at most {_MOST_SAMPLES} (default: 5)",
    )


def run(args: argparse.Namespace) -> Report:
    """Measure each size; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of a request, and what is claimed of them.
    """
    samples: dict[str, list[float]] = {}
    built = {}
    with scratch_folder() as folder:
        for size in args.items:
            reset_own_peak()
            note(f"{size:,} items: vectors")
            world = made(size, folder)
            note(f"{size:,} items: indexes")
            contenders, about = contenders_of(world, args.batches)
            built[f"{size:,}"] = about
            note(f"{size:,} items: recall@{_K} {about['recall']:.4f}; requests")
            measured = in_turn(contenders, args.seconds)
            samples |= {f"{size:,}, {name}": own for name, own in measured.items()}
            about["peak_gb"] = own_peak_gb()
            del contenders, world
            gc.collect()
    return Report(
        name="serving",
        settings={"dim": _DIM, "k": _K, "items": args.items, "batches": args.batches},
        samples=samples,
        claims=claims_of(samples, built),
        details={"indexes": built},
        threads={"jax": cores()},
        tables=[table_of(samples)],
    )


def made(size: int, folder: Path, seed: int = 0) -> World:
    """Vectors around centres, of different lengths.

    Args:
        size: how many items.
        folder: where they lie if they are many.
        seed: of all draws.
    """
    random = np.random.default_rng(seed)
    centres = random.standard_normal((round(size**0.5), _DIM), np.float32)

    def around(count: int) -> np.ndarray:
        rows = centres[random.integers(len(centres), size=count)]
        rows = rows + 0.5 * random.standard_normal((count, _DIM), np.float32)
        return rows * np.exp(0.2 * random.standard_normal((count, 1), np.float32))

    users = around(_USERS)
    if size < _MAPPED_FROM:
        return World(around(size), users)
    path = folder / f"{size}.npy"
    items = np.lib.format.open_memmap(path, "w+", np.float32, (size, _DIM))
    for start in range(0, size, _ROWS_AT_ONCE):
        stop = min(start + _ROWS_AT_ONCE, size)
        items[start:stop] = around(stop - start)
    items.flush()
    del items
    return World(np.load(path, mmap_mode="r"), users)


def contenders_of(
    world: World, batches: Sequence[int]
) -> tuple[dict[str, Callable[[], object]], dict[str, Any]]:
    """What is measured, by name, each ready; and what was built for it.

    Args:
        world: the vectors.
        batches: users of a request.

    Returns:
        Calls that return when their work is done; and ``recall``, ``seconds`` of building the
        approximate index, and how it is searched.
    """
    items, users, ids = world.items, world.users, np.arange(len(world.items))
    is_mapped = isinstance(items, np.memmap)
    exact = Index.build(ids, items)
    start = time.perf_counter()
    asked = users[-_MEASURED_ON:]
    near = Index.build(ids, items, target_recall=_TARGET_RECALL, queries=asked, k=_K)
    seconds = time.perf_counter() - start
    assert near.measured is not None
    about = {"recall": near.measured.recall, "seconds": seconds, "index": repr(near)}
    if not is_mapped:
        check(exact, items, users)
    liked = {batch: _liked(len(items), batch) for batch in batches}
    folding, liked = _folding(world, liked)
    contenders: dict[str, Callable[[], object]] = {}
    for batch in batches:
        blocks = itertools.cycle(users.reshape(-1, batch, _DIM) if batch > 1 else users[:, None])
        lists = itertools.cycle(liked[batch])
        named = {
            "product alone": _product(items, batch, is_mapped),
            "known, exact": lambda blocks=blocks: exact.search(next(blocks), _K),
            "known, approximate": lambda blocks=blocks: near.search(next(blocks), _K),
            "fold-in": lambda lists=lists: folding.vectors(next(lists)),
        }
        if batch * len(items) <= _MOST_SCORES_OF_NUMPY and not is_mapped:
            named["NumPy"] = lambda blocks=blocks: by_numpy(items, next(blocks))
        for kind, index in (("exact", exact), ("approximate", near)):
            named[f"new, {kind}"] = lambda lists=lists, index=index: index.search(
                folding.vectors(next(lists)), _K
            )
        contenders |= {f"batch {batch}: {name}": call for name, call in named.items()}
    return contenders, about


def _folding(world: World, liked: Mapping[int, _Batches]) -> tuple[Making, dict[int, _Batches]]:
    """What makes vectors of lists, and the lists by its rows; of mapped items these alone."""
    items, lists = world.items, dict(liked)
    if isinstance(items, np.memmap):
        every = [one for own in lists.values() for asked in own for one in asked]
        rows = np.unique(np.concatenate(every))
        items = np.asarray(items[rows])
        lists = {
            batch: [[np.searchsorted(rows, one).astype(np.int32) for one in asked] for asked in own]
            for batch, own in lists.items()
        }
    tables = InnerProduct(jnp.asarray(world.users), jnp.asarray(items))
    return fold_in_of(tables, None).users, lists


def _liked(items: int, batch: int) -> _Batches:
    random = np.random.default_rng(1)
    return [
        [random.integers(items, size=_LIKED).astype(np.int32) for _ in range(batch)]
        for _ in range(16)
    ]


def _product(items: np.ndarray, batch: int, is_mapped: bool) -> Callable[[], object]:
    """All products of a batch, a block of queries or of items at a time."""
    product = jax.jit(lambda table, queries: exact_product(table, queries.T))
    random = np.random.default_rng(2)
    queries = jnp.asarray(random.standard_normal((batch, _DIM), np.float32))
    if is_mapped:

        def over_blocks() -> None:
            for start in range(0, len(items), _ROWS_AT_ONCE):
                block = jnp.asarray(items[start : start + _ROWS_AT_ONCE])
                jax.block_until_ready(product(block, queries))

        return over_blocks
    table = jnp.asarray(items)
    width = max(1, min(batch, _BLOCK_SCORES // len(items)))
    parts = [queries[at : at + width] for at in range(0, batch, width)]

    def over_queries() -> None:
        for part in parts:
            jax.block_until_ready(product(table, part))

    return over_queries


def by_numpy(items: np.ndarray, queries: np.ndarray) -> np.ndarray:
    """NumPy's product and partition, ``int[Q, 100]``.

    Args:
        items: ``float32[I, 64]``.
        queries: ``float32[Q, 64]``.
    """
    found = []
    for query in queries:
        scores = items @ query
        best = np.argpartition(scores, -_K)[-_K:]
        found.append(best[np.argsort(-scores[best])])
    return np.stack(found)


def check(exact: Index, items: np.ndarray, users: np.ndarray) -> None:
    """Compare a few exact answers with NumPy's.

    Args:
        exact: the index.
        items: its vectors.
        users: some queries.

    Raises:
        AssertionError: they differ by more than rounding explains.
    """
    found = exact.search(users[:3], _K)
    for ranked, expected, query in zip(found, by_numpy(items, users[:3]), users, strict=False):
        np.testing.assert_allclose(ranked.scores, items[expected] @ query, rtol=1e-4)


def in_turn(
    contenders: Mapping[str, Callable[[], object]], seconds: float
) -> dict[str, list[float]]:
    """Samples of all in turn, until each has had its time.

    Args:
        contenders: calls by name.
        seconds: of each.
    """
    for call in contenders.values():
        call()
    samples: dict[str, list[float]] = {name: [] for name in contenders}

    def wants(own: list[float]) -> bool:
        if len(own) < _LEAST_SAMPLES:
            return True
        return sum(own) < seconds and len(own) < _MOST_SAMPLES

    while waiting := [name for name, own in samples.items() if wants(own)]:
        for name in waiting:
            start = time.perf_counter()
            contenders[name]()
            samples[name].append(time.perf_counter() - start)
    return samples


def claims_of(
    samples: Mapping[str, Sequence[float]], built: Mapping[str, Mapping[str, Any]]
) -> list[Claim]:
    """What is claimed of 1 million items, as far as they were measured.

    Args:
        samples: seconds by size, batch and contender.
        built: what was built, by size.
    """
    medians = {name: statistics.median(own) for name, own in samples.items()}
    size, claims = "1,000,000", []
    for batch in (1, 256):
        ours, alone = (
            f"{size}, batch {batch}: {name}" for name in ("known, exact", "product alone")
        )
        if ours in medians:
            ratio = medians[ours] / medians[alone]
            name = f"exact, batch {batch}, to the product alone"
            claims.append(Claim(name, ratio, "×", "<=", 1.5))
    for name, title, most in (
        ("known, approximate", "approximate, one user", 2.0),
        ("fold-in", "fold-in of one user", 5.0),
    ):
        if (key := f"{size}, batch 1: {name}") in medians:
            claims.append(Claim(title, 1e3 * medians[key], "ms", "<", most))
    if size in built:
        claims.append(Claim(f"recall@{_K}", built[size]["recall"], "", ">=", _TARGET_RECALL))
    return claims


def table_of(samples: Mapping[str, Sequence[float]]) -> Table:
    """Percentiles and requests a second.

    Args:
        samples: seconds by size, batch and contender.
    """
    table = Table("items", "batch", "what", "p50", "p99", "users a second", title="serving")
    for name, own in samples.items():
        where, what = name.split(": ", 1)
        size, batch = where.split(", batch ")
        a_second = int(batch) * len(own) / sum(own)
        percentiles = (seconds_text(float(np.percentile(own, share))) for share in (50, 99))
        table.add_row(size, batch, what, *percentiles, f"{a_second:,.0f}")
    return table
