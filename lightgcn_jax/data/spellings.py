"""Whether ids of one part are those of another: files that do not fit each other are not joined.

Ids written `17` here and `17.0`, `017` or `" 17"` there are different ids to every program and the
same to whoever wrote them. Where most ids of a part are unknown to the other the two are shown side
by side, whatever the reason.
"""

from typing import Literal

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError

UnknownIds = Literal["refuse", "allow"]
"""What to do where most ids of a part are unknown to the part that it should fit."""


def check_fit(
    kind: str,
    known: pl.Series,
    given: pl.Series,
    known_name: str,
    given_name: str,
    unknown_ids: UnknownIds = "refuse",
) -> tuple[str, ...]:
    """Compares the ids of two parts that are to be joined.

    Args:
        kind: What the ids name: `users`, `items`.
        known: Int64 or String, the ids that should be met.
        given: Int64 or String, the ids of what is to be joined.
        known_name: What holds the known ids, for messages.
        given_name: What holds the others.
        unknown_ids: Whether the two may be joined where most of the given ids are unknown.

    Returns:
        A note where some are unknown; nothing where all are known.

    Raises:
        InputError: More than half of them are unknown, and `unknown_ids` is `refuse`.
    """
    if unknown_ids not in ("refuse", "allow"):
        raise InputError(f"unknown_ids: expected refuse or allow, got {unknown_ids!r}")
    if not len(known) or not len(given):
        return ()
    known_ids, distinct = IdMap.from_values(known), given.unique(maintain_order=True)
    unknown = distinct.filter(pl.Series(known_ids.rows(distinct) < 0))
    if not len(unknown):
        return ()
    count = f"{len(unknown):,} of {len(distinct):,} {kind} of {given_name}"
    pairs = respelled(unknown, known_ids.ids)
    theirs, ours = (pairs[0][0], pairs[1][0]) if len(pairs[0]) else (unknown[0], known[0])
    shown = f"{theirs!r} in {given_name}, {ours!r} in {known_name}"
    if 2 * len(unknown) > len(distinct) and unknown_ids == "refuse":
        raise InputError(
            f"{count} are unknown to {known_name}: {shown}; write both in the same way, or join "
            "them as they are by unknown_ids='allow' (--unknown-ids allow)"
        )
    if len(pairs[0]):
        return (
            f"{count} are unknown to {known_name}; {len(pairs[0]):,} of them are known but for the "
            f"way they are written: {shown}",
        )
    return (f"{count} are unknown to {known_name}",)


def twice_written(kind: str, ids: pl.Series) -> tuple[str, ...]:
    """A note where ids of one log differ in nothing but the way they are written.

    Args:
        kind: What the ids name: `users`, `items`.
        ids: Int64 or String, distinct.
    """
    if ids.dtype != pl.String:
        return ()
    plain = _plain(ids)
    twice = plain.is_duplicated()
    if not twice.any():
        return ()
    first = ids.filter(plain == plain.filter(twice)[0])
    return (
        f"{int(twice.sum()):,} {kind} differ only in the way they are written, as {first[0]!r} and "
        f"{first[1]!r}; each spelling counts as one of the {kind}",
    )


def respelled(unknown: pl.Series, known: pl.Series) -> tuple[pl.Series, pl.Series]:
    """The unknown ids whose plain form is that of a known one, and those known ones.

    Args:
        unknown: Int64 or String, ids that are not known.
        known: Int64 or String.
    """
    if not len(unknown) or not len(known):
        return unknown.clear(), known.clear()
    theirs, ours = (_plain(ids).str.to_lowercase() for ids in (unknown, known))
    order = ours.arg_sort()
    ours_sorted = ours.gather(order)
    place = np.minimum(ours_sorted.search_sorted(theirs).to_numpy(), len(ours) - 1)
    same = (ours_sorted.gather(place) == theirs).to_numpy()
    return unknown.filter(pl.Series(same)), known.gather(order.to_numpy()[place[same]])


def _plain(ids: pl.Series) -> pl.Series:
    """Ids as one would compare them by eye: 17 for 17.0, 017, +17 and " 17"."""
    text = ids.cast(pl.String).str.normalize("NFC").str.strip_chars()
    text = text.str.strip_chars("\"'\ufeff\u200b").str.strip_chars()
    return text.str.replace(r"^\+?0*(\d+)(?:\.0*)?$", "${1}").rename("plain")
