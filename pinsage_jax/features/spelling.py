"""Ids of two files that are probably the same and are written in two ways."""

from __future__ import annotations

import polars as pl

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.spellings import respelled

_LOOKED_AT = 10_000


def same_but_for_spelling(unknown: pl.Series, known: IdMap) -> str:
    """Name an unknown id and the known one that differs from it in spelling alone.

    Args:
        unknown: Int64 or String ids, none of which is known; the first ten thousand are looked at.
        known: the ids that were expected.

    Returns:
        Such as ``'017' here and 17 there differ in spelling alone``; empty where there is no such
        pair.
    """
    given, expected = respelled(unknown.head(_LOOKED_AT), known.ids)
    if not len(given):
        return ""
    return f"{given[0]!r} here and {expected[0]!r} there differ in spelling alone"
