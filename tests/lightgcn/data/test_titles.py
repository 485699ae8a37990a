"""Titles of items: read from tables, kept through splits and runs."""

import polars as pl
import pytest

from lightgcn_jax.data import IdMap, Interactions, load_dataset, ratio_split
from lightgcn_jax.data.title_files import read_titles
from lightgcn_jax.data.titles import Titles
from lightgcn_jax.errors import InputError


def written(tmp_path, name, text):
    (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path / name


def test_titles_of_known_items_and_none_of_others():
    titles = Titles(IdMap(pl.Series([7, 3])), pl.Series(["Heat", "Alien"]))
    assert titles.of([3, "7", 4]).to_list() == ["Alien", "Heat", None]
    assert titles.of([]).to_list() == []
    with pytest.raises(InputError, match=r"expected String\[1\]"):
        Titles(IdMap(pl.Series([7])), pl.Series(["a", "b"]))


def test_later_titles_count():
    old = Titles(IdMap(pl.Series([1, 2])), pl.Series(["one", "two"]))
    new = Titles(IdMap(pl.Series(["2", "x"])), pl.Series(["TWO", "ex"]))
    both = old.joined(new)
    assert both.of([1, 2, "x"]).to_list() == ["one", "TWO", "ex"]
    assert old.joined(None) is old


@pytest.mark.parametrize(
    ("name", "text", "columns"),
    [
        ("a.csv", 'movieId,title,genres\n1,"Heat, the film",x\n2,Alien,y\n', ()),
        ("a.tsv", "name\tid\nHeat, the film\t1\nAlien\t2\n", ("id", "name")),
        ("a.item", "item_id:token\tname:token_seq\n1\tHeat, the film\n2\tAlien\n", ()),
    ],
)
def test_tables_of_titles(name, text, columns, tmp_path):
    titles = read_titles(written(tmp_path, name, text), *columns)
    assert titles.of([1, 2]).to_list() == ["Heat, the film", "Alien"]


def test_parquet_and_lines_that_tell_nothing(tmp_path):
    pl.DataFrame({"sku": ["a", "b"], "name": ["NULL", "B"]}).write_parquet(tmp_path / "t.parquet")
    assert read_titles(tmp_path / "t.parquet").of(["a", "b"]).to_list() == ["NULL", "B"]
    # An empty title is none; of two titles the first counts.
    path = written(tmp_path, "t.csv", "id,title\n1,\n2,two\n2,zwei\n")
    assert read_titles(path).of([1, 2]).to_list() == [None, "two"]
    with pytest.raises(InputError, match="title_column"):
        read_titles(path, "id", "nam")


def test_titles_go_along_with_interactions_and_splits():
    given = Interactions.from_arrays([0, 0, 1, 1] * 3, [*range(12)])
    titles = Titles(given.items, pl.Series([f"item {row}" for row in range(12)]))
    split = ratio_split(
        Interactions(given.users, given.items, given.user_rows, given.item_rows, titles=titles)
    )
    assert split.in_canonical_order().titles.of([5]).to_list() == ["item 5"]


def test_data_sets_bring_their_titles(real_data):
    films = load_dataset("ml-100k", data_dir=real_data)
    assert films.titles.of([1]).to_list() == ["Toy Story"]
    artists = load_dataset("hetrec-lastfm", data_dir=real_data)
    assert artists.titles.of([1]).to_list() == ["MALICE MIZER"]


def test_the_film_list_as_grouplens_has_it(tmp_path):
    """``u.item`` is Latin-1, without a header, between vertical bars."""
    from lightgcn_jax.data.manifest import ENTRIES

    (tmp_path / "u.item").write_bytes(
        '1|Léon "x"|1-Jan-1995||http://a|0|0\n2|GoldenEye|1-Jan-1995||http://b|0|1\n'.encode(
            "latin-1"
        )
    )
    reading = dict(ENTRIES["ml-100k"].titles)["u.item"]
    assert read_titles(tmp_path / "u.item", **reading).of([1, 2]).to_list() == [
        'Léon "x"',
        "GoldenEye",
    ]
