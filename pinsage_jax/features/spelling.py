"""Ids of two files that are probably the same and are written in two ways."""

from __future__ import annotations

import unicodedata
from typing import Literal, get_args

import numpy as np
import polars as pl

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError
from pinsage_jax.features.inputs import require

UnknownIds = Literal["refuse", "allow"]
"""Whether files go together of which one has mostly ids that the other one lacks."""

_LOOKED_AT = 1_000
_INTEGER = r"^[+-]?\d+(?:\.0*)?$"


def same_but_for_spelling(unknown: pl.Series, known: IdMap) -> str:
    """Name an unknown id and the known one that differs from it in spelling alone.

    Blanks, zeros in front, a decimal point as in 17.0, capitals and Unicode's forms are spelling.

    Args:
        unknown: Int64 or String ids, none of which is known; the first thousand are looked at.
        known: the ids that were expected.

    Returns:
        Such as ``'017' here and 17 there differ in spelling alone``; empty where there is no such
        pair.
    """
    for value in unknown.head(_LOOKED_AT).to_list():
        forms = _forms(str(value), len(str(known.ids[0])) if len(known) else 0)
        rows = known.rows(forms) if forms else np.zeros(0, np.int32)
        if (rows >= 0).any():
            other = known.ids[int(rows[rows >= 0][0])]
            return f"{value!r} here and {other!r} there differ in spelling alone"
    return ""


def _forms(text: str, width: int) -> list[str]:
    """Other spellings of an id."""
    bare = unicodedata.normalize("NFC", text).strip().strip("\ufeff\u200b\"'")
    forms = [bare, bare.lower(), bare.upper(), unicodedata.normalize("NFD", bare)]
    if pl.Series([bare]).str.contains(_INTEGER)[0]:
        digits = bare.partition(".")[0]
        sign, digits = digits[:1].strip("0123456789+"), digits.lstrip("+-").lstrip("0") or "0"
        number = sign + digits
        forms += [number, f"{number}.0", number.zfill(width)]
    return [form for form in dict.fromkeys(forms) if form and form != text]


def refuse_other_ids(
    what: str, unknown: pl.Series, total: int, known: IdMap, unknown_ids: UnknownIds
) -> None:
    """Refuse ids of which most are unknown: two files that do not belong together.

    Args:
        what: the ids, for the message: ``a.csv: ids of items``.
        unknown: those of them that are not known, each once.
        total: how many distinct ids there are.
        known: the ids that they should be of.
        unknown_ids: whether to go on all the same.

    Raises:
        InputError: more than half are unknown.
    """
    policies = get_args(UnknownIds)
    require(unknown_ids in policies, "unknown_ids", " or ".join(policies), unknown_ids)
    if unknown_ids == "allow" or len(unknown) * 2 <= total:
        return
    known_one = f"such as {known.ids[0]!r}" if len(known) else "of which there are none"
    spelling = same_but_for_spelling(unknown, known)
    raise InputError(
        f"{what}: expected those of the data, {known_one}; {len(unknown):,} of {total:,} are "
        f"others, such as {unknown[0]!r}" + (f" ({spelling})" if spelling else "") + "; where "
        "that is meant, say --unknown-ids allow"
    )
