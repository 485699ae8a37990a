"""Ids of two files that are the same and are written in two ways."""

import polars as pl
import pytest

from lightgcn_jax.data.ids import IdMap
from pinsage_jax.features.spelling import same_but_for_spelling


@pytest.mark.parametrize(
    ("given", "known"),
    [
        ("17.0", 17),
        ("017", 17),
        ("+17", 17),
        ("\ufeff17", 17),
        ("17", "00017"),
        ("B07", "b07"),
        ("b07", "B07"),
        ("cafe\u0301", "caf\u00e9"),
        ('"x"', "x"),
        ("x\u200b", "x"),
    ],
)
def test_the_two_spellings_stand_side_by_side(given, known):
    others = [1000, 1001] if isinstance(known, int) else [known]
    items = IdMap(pl.Series("id", [known, *others]).unique(maintain_order=True))
    found = same_but_for_spelling(pl.Series(["nobody", given]), items)
    assert found == f"{given!r} here and {known!r} there differ in spelling alone"


def test_others_are_not_taken_for_the_same():
    items = IdMap.from_values([17, 18])
    for other in ("17.5", "1 7", "x17", "171"):
        assert same_but_for_spelling(pl.Series([other]), items) == ""
    assert same_but_for_spelling(pl.Series([], dtype=pl.String), items) == ""
    assert same_but_for_spelling(pl.Series(["1"]), IdMap.from_values([])) == ""
