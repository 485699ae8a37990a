"""One user's recommendations from a large catalogue, warm, against NumPy's product and partition.

NumPy scores all items, hides what the user has, takes the k best by a partition and sorts them.
Ours is :meth:`Recommender.recommend` from an external id to external ids, plain and with each
filter. Vectors are normal numbers: nothing depends on what they say. Every call asks for another
user.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable

import jax.numpy as jnp
import numpy as np
import polars as pl

from benchmarks.harness.report import (
    Report,
    alternate,
    cores,
    note,
    ratio_claim,
    whole_number,
)
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.serving import Recommender

_NUMPY = "NumPy's product and partition"
_USERS, _DIM, _CUTOFF, _SEEN = 1_000, 64, 20, 50
_TARGET = 1.5
# OpenBLAS's threads wait for more work at full speed for over a tenth of a second after a product;
# whoever comes next would have one core in place of two.
_PAUSE_SECONDS = 0.25


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks recommend``.
    """
    parser.add_argument(
        "--items", type=whole_number, default=200_000, help="items (default 200,000)"
    )
    parser.add_argument(
        "--rounds", type=whole_number, default=31, help="samples of each (default 31)"
    )


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of a call, and what is claimed of them.
    """
    random = np.random.default_rng(0)
    users, items = (
        random.normal(size=(rows, _DIM)).astype(np.float32) for rows in (_USERS, args.items)
    )
    seen = np.stack([random.choice(args.items, _SEEN, replace=False) for _ in range(_USERS)])
    recommender = _recommender(users, items, seen)
    halves = np.flatnonzero(random.random(args.items) < 0.5)
    few = halves[:1_000]
    ours: dict[str, dict] = {
        "ours": {},
        "ours, half of the items allowed": {"among": halves},
        "ours, 1,000 items allowed": {"among": few},
        "ours, 1,000 items excluded": {"exclude": few},
        "ours, seen items too": {"exclude_seen": False},
    }
    contenders = {_NUMPY: _in_turn(lambda user: _by_numpy(users, items, seen, user))}
    contenders |= {
        title: _in_turn(lambda user, asked=asked: recommender.recommend(user, _CUTOFF, **asked))
        for title, asked in ours.items()
    }
    for user in range(3):
        expected, found = (
            _by_numpy(users, items, seen, user),
            recommender.recommend(user, _CUTOFF).ids,
        )
        if list(expected) != found:
            raise AssertionError(f"user {user}: expected {list(expected)}, got {found}")
    note(f"{args.rounds} rounds")
    samples = alternate(contenders, rounds=args.rounds, warmups=3, pause=_PAUSE_SECONDS)
    return Report(
        name="recommend",
        settings={"users": _USERS, "items": args.items, "dim": _DIM, "cutoff": _CUTOFF},
        samples=samples,
        claims=[
            ratio_claim(
                title.replace(", ", "_").replace(" ", "_") + "_to_numpy",
                samples[title], samples[_NUMPY], "<=", _TARGET,
            )
            for title in ours
        ],
        threads={"jax": cores()},
    )  # fmt: skip


def _recommender(users: np.ndarray, items: np.ndarray, seen: np.ndarray) -> Recommender:
    """Users and items whose external ids are their rows."""
    user_ids, item_ids = (
        IdMap(pl.Series(np.arange(len(table), dtype=np.int64))) for table in (users, items)
    )
    pairs = np.repeat(np.arange(len(users)), seen.shape[1]), seen.ravel()
    scorer = InnerProduct(jnp.asarray(users), jnp.asarray(items))
    return Recommender(user_ids, item_ids, scorer, csr_rows(*pairs, len(users)))


def _by_numpy(users: np.ndarray, items: np.ndarray, seen: np.ndarray, user: int) -> np.ndarray:
    scores = items @ users[user]
    scores[seen[user]] = -np.inf
    best = np.argpartition(scores, -_CUTOFF)[-_CUTOFF:]
    return best[np.argsort(-scores[best])]


def _in_turn(call: Callable[[int], object]) -> Callable[[], object]:
    """The call for one user after another."""
    users = itertools.cycle(range(_USERS))
    return lambda: call(next(users))
