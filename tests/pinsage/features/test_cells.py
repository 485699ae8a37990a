"""Which columns of a text file are numbers, and what becomes of the cells that are none."""

import datetime

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.features.cells import judged, lines_of
from pinsage_jax.features.table import FeatureTable


def read(cells, kind=None):
    lines = lines_of(np.arange(len(cells)) + 2)
    return judged(pl.Series("c", cells, dtype=pl.String), kind, lines)


def some(cells, numbers=20):
    """So many numbers, and then some cells."""
    return [str(one) for one in range(numbers)] + list(cells)


@pytest.mark.parametrize(
    "cell", ["NA", "n/a", "NaN", "null", "None", "-", "–", "—", r"\N", "$", "?"]
)
def test_marks_of_missing_values_leave_a_column_of_numbers(cell):
    found = read([cell, "2.5", f" {cell} ", None, "-3", " 4e1 "])
    assert found.series.to_list() == [None, 2.5, None, None, -3, 40]
    assert found.remark == (
        "2 of 5 filled cells are no numbers and count as missing: "
        f"{cell!r} (line 2), {cell!r} (line 4)"
    )


def test_a_tenth_of_other_cells_leaves_a_column_of_numbers():
    found = read(some(["$11.44", "good"]))
    assert found.series.to_list() == [*range(20), None, None]
    assert found.series.dtype == pl.Int64
    assert "2 of 22 filled cells are no numbers" in found.remark
    assert "'$11.44' (line 22), 'good' (line 23)" in found.remark
    # Infinite numbers are none that a mean can be made of.
    assert read(some(["inf"])).series[20] is None


def test_between_a_tenth_and_a_half_both_readings_are_named():
    cells = some(["S", "M", "L", "XL"])
    with pytest.raises(InputError, match=r"column 'c': can be read in two ways, 20 of 24 filled"):
        read(cells)
    with pytest.raises(InputError, match=r"say --kind c=number, where .* or --kind c=text"):
        read(cells)
    assert read(cells, "number").series.to_list() == [*range(20), None, None, None, None]
    assert read(cells, "text").series.to_list() == cells
    # Titles, some of which are numerals.
    titles = ["1984", "Brazil", "300", "Heat"]
    assert read(titles).series.to_list() == titles
    with pytest.raises(InputError, match="column 'c': expected numbers, 1 of 3 filled cells are"):
        read(["1984", "Brazil", "Heat"], "number")


@pytest.mark.parametrize(
    ("cell", "what"),
    [
        ("$11.44", "a currency sign"),
        ("1,234.5 €", "a currency sign"),
        ("USD 5", "a currency sign"),
        ("1,234", "a thousands separator"),
        ("-12.345.678", "a thousands separator"),
        ("3,5", "a decimal comma"),
        ("12%", "a percent sign"),
    ],
)
@pytest.mark.parametrize("numbers", [0, 20])
@pytest.mark.parametrize("kind", [None, "number"])
def test_numbers_that_are_not_written_bare_are_refused_by_what_they_wear(cell, what, numbers, kind):
    cells = some([cell] * 8, numbers)
    with pytest.raises(InputError, match=f"8 of {numbers + 8} filled cells have {what}: '"):
        read(cells, kind)
    assert read(cells, "text").series.to_list() == cells


@pytest.mark.parametrize("cell", ["02139", "-007", "12345678901234567890"])
def test_codes_keep_their_spelling(cell):
    cells = some([cell])
    found = read(cells)
    assert found.series.to_list() == cells
    assert f"as codes do: {cell!r} (line 22)" in found.remark
    assert read(cells, "number").series[20] == float(cell)


def test_dates_are_days_since_1970():
    found = read(["1970-01-02", "2020-01-31T12:00:00", None, "1969-12-31"])
    day = (datetime.date(2020, 1, 31) - datetime.date(1970, 1, 1)).days
    assert found.series.to_list() == [1, day + 0.5, None, -1]
    assert found.remark == "days since 1970"
    assert read(["1970-01-02"] * 9 + ["soon"]).remark.endswith("missing: 'soon' (line 11)")
    # Days and months in an order that nobody told stay text.
    assert read(["1/2/2018", "2/1/2018"]).series.dtype == pl.String


def test_lists_of_numbers_are_vectors_where_that_is_said():
    cells = ["[0.5, 1, -2e-1]", "(1 2 3)", None, "[]", " 4;5;6 "]
    expected = [[0.5, 1, -0.2], [1, 2, 3], None, [], [4, 5, 6]]
    assert read(cells, "vector").series.to_list() == expected
    table = FeatureTable.from_mapping({"c": read(cells, "vector").series}, {"c": "vector"})
    assert table.missing() == {"c": 2}
    with pytest.raises(InputError, match="column 'c': can be read in two ways, as vectors or as t"):
        read(cells[:2])
    with pytest.raises(InputError, match=r"column 'c', line 3: expected numbers of a vector.*'\[x"):
        read(["[1]", "[x]"], "vector")


def test_columns_without_numbers():
    assert read([None, None]).remark == "no cell is filled"
    assert read([None], "number").series.dtype == pl.Float64
    assert read(["NA", "NA"]).remark == "no cell is filled, but for marks of missing values"
    assert read(["NA"], "number").series.to_list() == [None]
    for kind in ("text", "category", "categories"):
        assert read(["1", "2"], kind).series.to_list() == ["1", "2"]
    with pytest.raises(InputError, match=r"column 'c': expected numbers, got 'a' \(line 2\)"):
        read(["a"], "number")
