import shutil

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data import Interactions
from lightgcn_jax.errors import InputError
from pinsage_jax.data.sources import (
    SOURCES,
    _in_order,
    _Reader,
    _truths,
    from_files,
    load_items,
    with_pairs,
)
from pinsage_jax.features.table import FeatureTable


def column(data, name):
    return data.features.columns[name].values


def film(data, movie):
    return data.interactions.items.row(movie)


@pytest.fixture(scope="module")
def films(real_data):
    return load_items("ml-latest-small", data_dir=real_data)


@pytest.fixture(scope="module")
def artists(real_data):
    return load_items("hetrec-lastfm", data_dir=real_data)


def test_films_have_titles_years_genres_and_tags(films):
    assert len(films.interactions) == 100_004  # all ratings, the low ones too
    assert films.interactions.timestamps is not None
    assert {name: one.kind for name, one in films.features.columns.items()} == {
        "title": "text",
        "year": "number",
        "genres": "categories",
        "tags": "text",
    }
    toys = film(films, 1)
    assert column(films, "title")[toys] == "Toy Story"
    assert column(films, "year")[toys] == 1995
    assert column(films, "genres")[toys] == [
        "Adventure", "Animation", "Children", "Comedy", "Fantasy",
    ]  # fmt: skip
    assert column(films, "tags")[film(films, 1955)] == "dentist"
    assert column(films, "tags").count(None) > 8_000
    # A title in quotes, and a comma within.
    assert column(films, "title")[film(films, 11)] == "American President, The"
    assert films.notes == ()


def test_films_are_labelled_by_genre(films):
    genres = films.labels["genres"]
    assert genres.shape == (9_066, 19)
    lengths = [len(row) for row in column(films, "genres")]
    assert (genres.sum(axis=1) == lengths).all()
    names = sorted({genre for row in column(films, "genres") for genre in row})
    assert "(no genres listed)" not in names
    toys = film(films, 1)
    assert [names[at] for at in np.flatnonzero(genres[toys])] == column(films, "genres")[toys]
    assert np.isnan(column(films, "year")).sum() < 20


def test_films_of_the_older_set_have_titles_years_and_genres_if_their_file_is_there(
    real_data, tmp_path
):
    films = load_items("ml-100k", data_dir=real_data)
    assert len(films.interactions) == 100_000
    toys = films.interactions.items.row(1)
    assert [column(films, name)[toys] for name in ("title", "year")] == ["Toy Story", 1995]
    assert column(films, "genres")[toys] == ["Animation", "Children's", "Comedy"]
    (tmp_path / "ml-100k").mkdir()
    shutil.copy(real_data / "ml-100k" / "ml-100k.inter", tmp_path / "ml-100k")
    alone = load_items("ml-100k", data_dir=tmp_path)
    assert alone.notes == ("ml-100k.item is not there: no features",)
    assert not alone.features.columns


def test_artists_have_names_and_the_most_given_tags(artists):
    assert len(artists.interactions) == 92_834
    tags, labels = column(artists, "tags"), artists.labels["tags"]
    assert column(artists, "name")[film(artists, 51)] == "Duran Duran"
    assert len({tag for row in tags for tag in row}) == 1000
    assert labels.shape == (17_632, 20)
    held = [set(row) for row in tags]
    rock = np.array(["rock" in row for row in held])
    assert any((labels[:, at] == rock).all() for at in range(20))
    counts = {}
    for row in held:
        for tag in row:
            counts[tag] = counts.get(tag, 0) + 1
    # Ranked by how often they were given, they are also on most artists, roughly.
    assert labels.sum(axis=0).min() > np.median(list(counts.values()))


def test_gowalla_keeps_its_split_and_has_no_features(real_data):
    data = load_items("gowalla", data_dir=real_data)
    assert data.interactions.parts is not None
    assert data.features.columns == {}
    assert data.describe().startswith("40,981 items; 29,858 contexts, 1,027,370 memberships")


def test_a_file_of_another_edition_is_named(real_data, tmp_path):
    folder = tmp_path / "ml-latest-small"
    folder.mkdir()
    shutil.copy(real_data / "ml-latest-small" / "ratings.csv", folder)
    with pytest.raises(InputError, match=r"movies.csv: cannot be read \(No such file.*grouplens"):
        load_items("ml-latest-small", data_dir=tmp_path)
    (folder / "movies.csv").write_text("movieId,title,genres\n1,Toy Story (1995),Comedy\n")
    message = r"movies.csv: expected a line for each of 9,066 items, but 9,065 have none"
    with pytest.raises(InputError, match=message):
        load_items("ml-latest-small", data_dir=tmp_path)


@pytest.fixture
def reader(tmp_path):
    folder = tmp_path / "hetrec-lastfm"
    folder.mkdir()
    (folder / "user_artists.dat").touch()
    made = _Reader("hetrec-lastfm", tmp_path, separator="\t", quoting="none")
    assert made.path("") == folder
    return made


TYPES = {"id": pl.Int64, "name": pl.String}


def test_tables_are_read_by_their_columns(reader):
    reader.path("a.dat").write_bytes(
        b'\xef\xbb\xbfname\turl\tid\nSigur R\xc3\xb3s\tx\t7\nBj\xf6rk\ty\t8\n"odd\tz\t9\n'
    )
    frame = reader.read("a.dat", TYPES)
    assert frame.rows() == [(7, "Sigur Rós"), (8, "Bj\ufffdrk"), (9, '"odd')]
    assert reader.notes() == ("a.dat: 1 places are no UTF-8 and were replaced by U+FFFD",)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "a.dat: expected a header and rows, but the file is empty"),
        ("id\tname\n1\ta\tb\tc\n", r"a.dat:2: expected 2 fields \(id, name\), got 4: "),
        ("id\turl\n1\ta\n", "a.dat: expected the columns id, name, got id, url without name"),
        ("id\tname\n1\ta\nx\tb\n", "row 2 below the header, id: expected an integer, got 'x'"),
    ],
)
def test_a_broken_table_is_named(reader, text, message):
    reader.path("a.dat").write_text(text)
    with pytest.raises(InputError, match=message):
        reader.read("a.dat", TYPES)


def test_rows_come_in_the_order_of_the_items(tmp_path):
    interactions = Interactions.from_arrays([0, 0, 1], [30, 10, 20])
    table = pl.DataFrame({"id": [20, 40, 10, 30], "name": ["b", "d", "a", "c"]})
    ordered = _in_order(interactions, table, "id", tmp_path)
    assert ordered.rows() == [(10, "a"), (20, "b"), (30, "c")]
    with pytest.raises(InputError, match="expected one line for each id, but 10 stands twice"):
        _in_order(interactions, pl.concat([table, table[2:3]]), "id", tmp_path)


def test_truths_of_lists():
    lists = pl.Series([["a", "c"], [], None, ["b", "x"]])
    assert _truths(lists, ["b", "a", "c"]).tolist() == [
        [False, True, True],
        [False] * 3,
        [False] * 3,
        [True, False, False],
    ]


def test_items_of_ones_own():
    interactions = Interactions.from_arrays(["u", "u", "v"], ["a", "b", "a"])
    bare = from_files(interactions, None)
    assert (bare.features.num_rows, bare.labels, bare.pairs) == (2, {}, None)
    assert bare.describe() == "2 items; 2 contexts, 3 memberships; features: none"
    table = FeatureTable.from_mapping({"price": [1.0, 2.0]})
    assert from_files(interactions, table, "shop").name == "shop"
    with pytest.raises(InputError, match="features: expected 2 rows, one for each item, got 1"):
        from_files(interactions, table.take([0]))


def test_names():
    assert tuple(SOURCES) == ("pins", "ml-latest-small", "ml-100k", "hetrec-lastfm", "gowalla")
    with pytest.raises(InputError, match="unknown data set 'nobody': expected one of pins, ml-"):
        load_items("nobody")


def test_explicit_pairs_of_a_file_are_rows_of_known_items(tmp_path):
    items = from_files(Interactions.from_arrays(["a", "a", "b"], ["x", "y", "z"]), None)
    path = tmp_path / "pairs.csv"
    path.write_text("query,positive\nx,y\nz,x\ny,y\nx,new\n")
    found = with_pairs(items, path)
    rows = items.interactions.items.rows
    assert {tuple(pair) for pair in np.transpose(found.pairs)} == {
        tuple(rows(["x", "y"])),
        tuple(rows(["z", "x"])),
    }
    assert found.notes == (
        "pairs.csv: 1 of 4 pairs are left out: one of their items is unknown",
        "pairs.csv: 1 of 4 pairs are left out: an item with itself",
    )
    path.write_text("query,positive\n1,x\n2,x\nx,y\n")
    with pytest.raises(InputError, match=r"2 of 3 pairs name an item that is unknown, such as '1'"):
        with_pairs(items, path)
