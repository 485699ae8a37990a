import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.errors import InputError
from pinsage_jax.features import inputs as feature_inputs
from pinsage_jax.features.bags import CategorySchema, hashed_bags
from pinsage_jax.features.columns import Column
from pinsage_jax.features.inputs import Input, Statistics
from pinsage_jax.features.schema import DenseSchema, FeatureSchema, fit_schema
from pinsage_jax.features.table import FeatureTable

VECTORS = np.array([[1, 10], [3, 10], [5, 10], [100, -100]], np.float32)
TABLE = FeatureTable(
    {
        "look": Column("vector", VECTORS),
        "title": Column("text", ["Red shoes", "blue", None, "a b c d e f"]),
        "brand": Column("category", ["acme", None, "acme", "zeta"]),
        "tags": Column("categories", [["x", "y"], ["y"], [], ["z", "y", "x", "q"]]),
        "price": Column("number", [1.0, float("nan"), 5.0, 1e6]),
    },
    num_rows=4,
)
TRAIN = np.array([0, 1, 2])
DEGREES = np.array([0, 3, 7, 0])


def columns_of(table):
    return {name: column.values for name, column in table.columns.items()}


def test_columns_are_brought_into_one_form():
    table = FeatureTable(
        {
            "look": Column("vector", [[1, 2], [3, 4]]),
            "title": Column("text", np.array(["a", None], object)),
            "brand": Column("category", [7, True]),
            "tags": Column("categories", [("b", "a", None, "", "b"), None]),
            "price": Column("number", [1, None]),
        },
        num_rows=2,
    )
    values = columns_of(table)
    assert values["look"].dtype == np.float32
    assert values["title"] == ["a", None]
    assert values["brand"] == ["7", "true"]
    assert values["tags"] == [["b", "a"], []]
    np.testing.assert_array_equal(values["price"], [1.0, np.nan])
    assert table.missing() == {"look": 0, "title": 1, "brand": 0, "tags": 1, "price": 1}


def test_rows_and_columns_are_taken():
    table = TABLE.take([3, -1, 0]).select(["price", "look", "tags", "title"])
    assert list(table.columns) == ["price", "look", "tags", "title"]
    assert table.num_rows == 3
    values = columns_of(table)
    np.testing.assert_array_equal(values["price"], [1e6, np.nan, 1.0])
    assert values["look"].tolist() == [[100, -100], [0, 0], [1, 10]]
    assert values["tags"] == [["z", "y", "x", "q"], [], ["x", "y"]]
    assert values["title"] == ["a b c d e f", None, "Red shoes"]
    assert table.columns["look"].absent().tolist() == [False, True, False]
    # Missing stays missing.
    assert table.take([1, 2, 1]).missing() == {"price": 2, "look": 2, "tags": 2, "title": 2}
    with pytest.raises(InputError, match="columns: expected the columns 'colour'"):
        TABLE.select(["colour"])
    with pytest.raises(InputError, match=r"rows: expected values in \[-1, 4\), got 4 to 4"):
        TABLE.take([4])


def test_kinds_follow_from_the_types_of_a_frame():
    frame = pl.DataFrame(
        {
            "text": ["a", None],
            "list": [["x", None, "x"], None],
            "whole": [1, None],
            "vector": [[1.0, 2.0], None],
            "truth": [True, None],
            "enum": pl.Series(["u", "v"], dtype=pl.Enum(["v", "u"])),
            "array": pl.Series(np.ones((2, 3), np.float32)),
        }
    )
    table = FeatureTable.from_frame(frame)
    assert {name: column.kind for name, column in table.columns.items()} == {
        "text": "text", "list": "categories", "whole": "number", "vector": "vector",
        "truth": "category", "enum": "category", "array": "vector",
    }  # fmt: skip
    values = columns_of(table)
    assert values["list"] == [["x"], []]
    assert values["truth"] == ["true", None]
    assert values["enum"] == ["u", "v"]
    assert values["vector"].tolist() == [[1, 2], [0, 0]]
    assert table.columns["vector"].absent().tolist() == [False, True]


def test_declared_kinds_convert():
    table = FeatureTable.from_mapping(
        {
            "genres": ["Drama | War", "", None],
            "year": [1999, 2000, None],
            "price": [" 1.5", "", None],
            "code": np.array([5, 6, 5]),
            "look": np.eye(3),
        },
        kinds={"genres": "categories", "year": "category", "price": "number", "code": "text"},
    )
    values = columns_of(table)
    assert values["genres"] == [["Drama", "War"], [], []]
    assert values["year"] == ["1999", "2000", None]
    np.testing.assert_array_equal(values["price"], [1.5, np.nan, np.nan])
    assert values["code"] == ["5", "6", "5"]
    assert table.columns["look"].kind == "vector"


@pytest.mark.parametrize(
    ("columns", "kinds", "message"),
    [
        ({"v": [[1.0, 2.0], [1.0]]}, {}, "column 'v', row 1: expected 2 entries as before, got 1"),
        (
            {"v": [[], [1.0, 2], [1.0]]},
            {},
            "column 'v', row 2: expected 2 entries as before, got 1",
        ),
        ({"v": [[1.0, 2.0], [1.0, None]]}, {}, "column 'v', row 1: expected finite .* got nan"),
        ({"v": np.array([[0.0, np.inf]])}, {}, "column 'v', row 0: expected finite .* got inf"),
        ({"v": np.array([[1e300]])}, {}, r"column 'v', row 0: expected finite .* got 1e\+300"),
        ({"v": ["1 2"]}, {"v": "vector"}, "column 'v': expected lists of numbers, got String"),
        ({"v": np.zeros((2, 0))}, {}, "column 'v': expected vectors of one width"),
        ({"n": ["1", "x"]}, {"n": "number"}, "column 'n', row 1: expected a number, got 'x'"),
        ({"n": [1.0, np.inf]}, {}, "column 'n', row 1: expected a finite number .* got inf"),
        ({"c": [1]}, {"c": "categories"}, "column 'c': expected lists of values, got Int64"),
        ({"d": [None]}, {}, "column 'd': no kind of feature has the type Null; declare one"),
        ({"d": [1, "a"]}, {}, "column 'd': expected values of one type"),
        ({"d": [1]}, {"d": "picture"}, "column 'd': expected a kind of vector, text"),
        ({"d": [1]}, {"e": "text"}, "kinds: expected the columns 'e', which are missing"),
        ({"d": [1], "e": [1, 2]}, {}, "column 'e': expected 1 rows, got 2"),
        ({}, {}, "num_rows: expected the number of items"),
    ],
)
def test_values_that_do_not_fit_are_named(columns, kinds, message):
    with pytest.raises(InputError, match=message):
        FeatureTable.from_mapping(columns, kinds)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (Column("text", ["a", 1.5]), "column 'c', row 1: expected a string or None, got 1.5"),
        (Column("category", ["a", 1.5]), "column 'c', row 1: expected a string, an integer"),
        (Column("categories", ["ab", []]), "column 'c', row 0: expected a list of values"),
        (Column("number", ["a", 2]), "column 'c': expected numbers"),
        (Column("number", [[1], [2]]), r"column 'c': expected one number a row"),
        (Column("vector", [1.0, 2.0]), "column 'c': expected vectors of one width"),
        (Column("picture", [1, 2]), "column 'c': expected a Column of kind vector"),  # pyright: ignore
        (Column("text", ["a"]), "column 'c': expected 2 rows, got 1"),
    ],
)
def test_a_table_checks_its_columns(column, message):
    with pytest.raises(InputError, match=message):
        FeatureTable({"c": column}, num_rows=2)


def test_broken_vectors_may_count_as_missing():
    broken = np.array([[1, 2], [np.nan, 5], [3, np.inf], [3, 6]])
    table = FeatureTable.from_mapping({"look": broken}, missing="zero")
    assert table.missing() == {"look": 2}
    schema = fit_schema(table, np.arange(4), np.zeros(4, int))
    assert isinstance(schema.columns[0], DenseSchema)
    assert schema.columns[0].statistics == Statistics((2.0, 4.0), (1.0, 2.0))
    encoded = schema.encode(table, np.zeros(4, int))["look"]
    assert encoded.tolist() == [[-1, -1], [0, 0], [0, 0], [1, 1]]
    with pytest.raises(InputError, match="missing: expected error or zero, got 'drop'"):
        FeatureTable.from_mapping({"look": broken}, missing="drop")  # pyright: ignore


def test_encoding_by_hand():
    schema = fit_schema(TABLE, TRAIN, DEGREES, buckets=50, max_words=4)
    assert schema.inputs() == (
        Input("look", "dense", 2, 2),
        Input("title", "bag", 50, 3),  # two words in training, and their pair
        Input("brand", "bag", 2, 1),
        Input("tags", "bag", 3, 2),
        Input("price", "dense", 2, 2),
        Input("log_degree", "dense", 1, 1),
    )
    encoded = schema.encode(TABLE, DEGREES)
    deviation = np.sqrt(8 / 3)  # of 1, 3, 5
    # The second dimension is constant in training: its deviation counts as 1, and 110 is cut.
    look = [[-2 / deviation, 0], [0, 0], [2 / deviation, 0], [97 / deviation, -100]]
    np.testing.assert_allclose(encoded["look"], look, rtol=1e-6)
    titles = hashed_bags(TABLE.columns["title"].values, buckets=50, max_words=2)
    assert encoded["title"].tolist() == titles.tolist()
    # acme is 1; zeta is unknown, which is 0; none is no value at all.
    assert encoded["brand"].tolist() == [[1], [-1], [1], [0]]
    # y stands twice, x once; z and q are unknown, which is one; the fourth has no room for x.
    assert encoded["tags"].tolist() == [[2, 1], [1, -1], [-1, -1], [0, 1]]
    assert encoded["price"].tolist() == [[-1, 0], [0, 1], [1, 0], [100, 0]]
    logs = np.log1p(DEGREES)
    expected = (logs - logs[:3].mean()) / logs[:3].std()
    np.testing.assert_allclose(encoded["log_degree"][:, 0], expected, rtol=1e-6)
    np.testing.assert_array_equal(schema.encode_degrees(DEGREES), encoded["log_degree"])
    for one in schema.inputs():
        assert encoded[one.name].shape == (4, one.width)
        assert encoded[one.name].dtype == (np.float32 if one.kind == "dense" else np.int32)


def test_statistics_in_blocks_are_those_of_the_whole(monkeypatch):
    rng = np.random.default_rng(0)
    values = rng.normal(1e4, 1.0, (101, 3)).astype(np.float32)
    rows = np.arange(0, 101, 2)
    monkeypatch.setattr(feature_inputs, "_BLOCK", 30)
    got = Statistics.fit(values, rows)
    exact = values[rows].astype(np.float64)
    np.testing.assert_allclose(got.mean, exact.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(got.std, exact.std(axis=0), rtol=1e-9)
    expected = (values - exact.mean(axis=0)[None]) / exact.std(axis=0)[None]
    np.testing.assert_allclose(got.standardised(values, None), expected, atol=1e-6)


def test_a_constant_column_is_zero_and_not_noise():
    """The mean of seven times 0.1 is not 0.1."""
    values = np.full((7, 1), 0.1)
    statistics = Statistics.fit(values, np.arange(7))
    assert statistics == Statistics((0.1,), (1.0,))
    assert not statistics.standardised(values, None).any()


def test_a_column_without_values_in_training_encodes_later_ones():
    table = FeatureTable(
        {
            "look": Column("vector", [[0, 0], [2, 3]], np.array([True, False])),
            "title": Column("text", [None, "a b"]),
            "brand": Column("category", [None, "a"]),
            "tags": Column("categories", [[], ["a", "b"]]),
            "price": Column("number", [np.nan, 4.0]),
        },
        num_rows=2,
    )  # fmt: skip
    encoded = fit_schema(table, [0], [0, 0]).encode(table, [0, 0])
    assert encoded["look"].tolist() == [[0, 0], [2, 3]]
    assert encoded["title"].shape == (2, 1)
    assert encoded["title"][1, 0] >= 0
    assert encoded["brand"].tolist() == encoded["tags"].tolist() == [[-1], [0]]
    assert encoded["price"].tolist() == [[0, 1], [4, 0]]
    assert encoded["log_degree"].tolist() == [[0], [0]]


def test_a_full_vocabulary_keeps_the_most_frequent(monkeypatch):
    monkeypatch.setattr("pinsage_jax.features.bags.MAX_VOCABULARY", 2)
    table = FeatureTable({"brand": Column("category", ["c", "b", "a", "c"])}, num_rows=4)
    schema = fit_schema(table, np.arange(4), np.zeros(4, int))
    assert isinstance(schema.columns[0], CategorySchema)
    assert schema.columns[0].vocabulary == ("c", "a")  # ties by name
    assert schema.encode(table, np.zeros(4, int))["brand"].tolist() == [[1], [0], [2], [1]]


texts = st.none() | st.text(max_size=12)
values = st.text(min_size=1, max_size=3)
reals = st.floats(-1e9, 1e9, width=32)


@st.composite
def tables(draw):
    rows = draw(st.integers(1, 5))

    def column(one):
        return draw(st.lists(one, min_size=rows, max_size=rows))

    number = np.array(column(reals | st.just(float("nan"))))
    return FeatureTable(
        {
            "v": Column("vector", np.array(column(st.tuples(reals, reals)), np.float32)),
            "t": Column("text", column(texts)),
            "c": Column("category", column(st.none() | values)),
            "cs": Column("categories", column(st.lists(values, max_size=4))),
            "n": Column("number", number),
        },
        num_rows=rows,
    )


@settings(max_examples=40, deadline=None)
@given(tables(), st.data())
def test_a_schema_comes_back_from_json(table, data):
    degrees = np.array(data.draw(st.lists(st.integers(0, 99), min_size=5, max_size=5)))
    degrees = degrees[: table.num_rows]
    schema = fit_schema(table, np.arange(table.num_rows), degrees, buckets=97)
    again = FeatureSchema.from_json(json.loads(json.dumps(schema.as_json(), allow_nan=False)))
    assert again == schema
    first, second = schema.encode(table, degrees), again.encode(table, degrees)
    assert list(first) == list(second) == [one.name for one in schema.inputs()]
    for one in schema.inputs():
        np.testing.assert_array_equal(first[one.name], second[one.name])
        if one.kind == "bag":
            assert ((first[one.name] >= -1) & (first[one.name] < one.size)).all()
        else:
            assert np.isfinite(first[one.name]).all()


@settings(max_examples=40, deadline=None)
@given(tables(), tables(), st.randoms())
def test_statistics_never_see_other_rows(table, other, random):
    """The rows of another table, before and after those of training, change nothing."""
    parts = {
        name: Column(
            column.kind,
            np.concatenate([other.columns[name].values, column.values])
            if column.kind in ("vector", "number")
            else other.columns[name].values + column.values,
        )
        for name, column in table.columns.items()
    }
    both = FeatureTable(parts, other.num_rows + table.num_rows)
    rows = list(range(other.num_rows, both.num_rows))
    random.shuffle(rows)
    degrees = np.arange(both.num_rows)
    alone = fit_schema(table, np.arange(table.num_rows), degrees[other.num_rows :])
    assert fit_schema(both, rows, degrees) == alone


def letters(given):
    """A sentence encoder: how many letters, and how many of them are a."""
    return np.array([[len(text), text.count("a")] for text in given], np.float64)


def test_a_text_encoder_makes_a_text_dense_too():
    table = FeatureTable({"title": Column("text", ["aa", "  ", "aaaa", None, "b"])}, num_rows=5)
    degrees, seen = np.zeros(5, int), []

    def encoder(given):
        seen.append(given)
        return letters(given)

    schema = fit_schema(table, [0, 1, 2], degrees, text_encoders={"title": encoder})
    assert seen == [["aa", "aaaa"]]  # the texts of training, but empty ones
    assert Input("title_sentence", "dense", 2, 2) in schema.inputs()
    assert FeatureSchema.from_json(json.loads(json.dumps(schema.as_json()))) == schema
    encoded = schema.encode(table, degrees, {"title": letters})
    assert encoded["title_sentence"].tolist() == [[-1, -1], [0, 0], [1, 1], [0, 0], [-2, -3]]
    assert not schema.encode(table.take([3, 3, 3, 3, 1]), degrees, {"title": letters})[
        "title_sentence"
    ].any()
    with pytest.raises(InputError, match="text_encoders: expected the encoder of column 'title'"):
        schema.encode(table, degrees)
    with pytest.raises(InputError, match=r"text_encoders: expected that of 'title' .* \[3, 2\]"):
        schema.encode(table, degrees, {"title": lambda given: np.zeros((len(given), 3))})
    with pytest.raises(InputError, match="finite numbers, it does not for 'aa'"):
        schema.encode(table, degrees, {"title": lambda given: np.full((len(given), 2), 1e300)})
    with pytest.raises(InputError, match="column 'title' has no text among the training items"):
        fit_schema(table, [1, 3], degrees, text_encoders={"title": letters})
    with pytest.raises(InputError, match="text_encoders: expected names of text columns, got 'x'"):
        fit_schema(table, [0], degrees, text_encoders={"x": letters})


def test_the_degree_alone_is_enough():
    nothing = FeatureTable({}, num_rows=3)
    schema = fit_schema(nothing, [0, 1], [1, 3, 0])
    assert [one.name for one in schema.inputs()] == ["log_degree"]
    assert schema.encode(nothing, [1, 3, 0])["log_degree"].shape == (3, 1)
    assert FeatureSchema.from_json(schema.as_json()) == schema
    with pytest.raises(InputError, match="expected at least one column where log_degree is off"):
        fit_schema(nothing, [0], [1, 3, 0], log_degree=False)
    without = fit_schema(TABLE, TRAIN, DEGREES, log_degree=False)
    assert "log_degree" not in without.encode(TABLE, DEGREES)
    with pytest.raises(InputError, match="log_degree: the schema was fitted without degrees"):
        without.encode_degrees([0])


def test_columns_missing_and_ignored():
    schema = fit_schema(TABLE.select(["look", "price"]), TRAIN, DEGREES)
    assert schema.ignored(TABLE) == ("title", "brand", "tags")
    assert list(schema.encode(TABLE, DEGREES)) == ["look", "price", "log_degree"]
    with pytest.raises(InputError, match="features: expected the columns 'price', which are miss"):
        schema.encode(TABLE.select(["look"]), DEGREES)
    other = FeatureTable({"look": Column("number", [1.0]), "price": Column("number", [1.0])}, 1)
    with pytest.raises(InputError, match="column 'look': expected kind vector as in training"):
        schema.encode(other, [0])
    wide = FeatureTable({"look": Column("vector", [[1, 2, 3]]), "price": Column("number", [1])}, 1)
    with pytest.raises(InputError, match="column 'look': expected vectors of 2 entries as in"):
        schema.encode(wide, [0])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"train_rows": []}, "train_rows: expected at least one row"),
        ({"train_rows": [4]}, r"train_rows: expected values in \[0, 4\)"),
        ({"train_rows": np.ones(4, bool)}, "train_rows: expected integers"),
        ({"degrees": [1, 2]}, "degrees: expected one for each of 4 items, got 2"),
        ({"degrees": [1, 2, 3, -1]}, r"degrees: expected values in \[0"),
        ({"buckets": 0}, "buckets: expected 1 to"),
        ({"max_words": 5_000}, "max_words: expected 1 to 4096, got 5000"),
    ],
)
def test_settings_are_checked(changes, message):
    given = {"train_rows": TRAIN, "degrees": DEGREES} | changes
    with pytest.raises(InputError, match=message):
        fit_schema(TABLE, **given)


def test_two_inputs_of_one_name_are_refused():
    table = FeatureTable({"log_degree": Column("number", [1.0])}, num_rows=1)
    with pytest.raises(InputError, match="two inputs would be called 'log_degree'"):
        fit_schema(table, [0], [0])


def changed(path, value):
    """The schema's JSON with one place changed; a value of ``del`` takes it out."""
    document = json.loads(json.dumps(fit_schema(TABLE, TRAIN, DEGREES).as_json()))
    inner = document
    for step in path[:-1]:
        inner = inner[step]
    if value is del_:
        del inner[path[-1]]
    else:
        inner[path[-1]] = value
    return document


del_ = object()


@pytest.mark.parametrize(
    ("document", "message"),
    [
        ([], "schema: expected an object with version, columns, degree"),
        (changed(["version"], 2), "schema.version: expected 1, got 2"),
        (changed(["columns"], {}), "schema.columns: expected a list"),
        (changed(["degree"], 3), "schema.degree: expected an object with mean, std"),
        (changed(["columns", 0], 3), r"schema.columns\[0\].kind: expected one of vector"),
        (changed(["columns", 0, "kind"], []), r"schema.columns\[0\].kind: expected one of vector"),
        (changed(["columns", 0, "name"], ""), r"schema.columns\[0\].name: expected a string"),
        (changed(["columns", 0, "more"], 1), r"schema.columns\[0\]: expected an object with name"),
        (changed(["columns", 0, "statistics"], del_), r"columns\[0\]: expected an object with"),
        (changed(["columns", 0, "statistics"], 1), "statistics: expected an object"),
        (changed(["columns", 0, "statistics", "std", 0], 0.0), "statistics.std: expected finite"),
        (changed(["columns", 0, "statistics", "mean", 0], float("nan")), "statistics.mean: expect"),
        (changed(["columns", 0, "statistics", "mean", 0], 10**400), "statistics.mean: expected"),
        (changed(["columns", 0, "statistics", "mean"], [1.0]), "statistics.std: expected 1 entr"),
        (changed(["columns", 0, "statistics", "mean"], []), "statistics.mean: expected a list"),
        (changed(["columns", 0, "kind"], "number"), "statistics: expected one dimension, got 2"),
        (changed(["columns", 1, "buckets"], 2**31), "buckets: expected an integer from 1 to"),
        (changed(["columns", 1, "words"], True), "words: expected an integer from 1 to 4096"),
        (changed(["columns", 1, "sentence"], []), "sentence: expected statistics or null"),
        (changed(["columns", 2, "vocabulary"], ["a", "a"]), "vocabulary: expected at most 10000"),
        (changed(["columns", 2, "vocabulary", 0], [1]), "vocabulary: expected at most 10000"),
        (changed(["columns", 2, "width"], 65), "width: expected an integer from 1 to 64, got 65"),
        (changed(["columns", 2, "name"], "look"), "two inputs would be called 'look'"),
    ],
)
def test_a_schema_from_a_file_is_checked(document, message):
    with pytest.raises(InputError, match=message):
        FeatureSchema.from_json(document)
