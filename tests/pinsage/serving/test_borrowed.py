"""Items that no context holds: whose contexts they borrow, and that they are found by them."""

import numpy as np
import pytest

from pinsage_jax import FeatureTable, fit, open_items
from pinsage_jax.features.schema import fit_schema
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.runs.evaluate import evaluate_fresh
from pinsage_jax.runs.finished import FinishedRun
from pinsage_jax.serving import borrowed
from pinsage_jax.serving.borrowed import Lenders
from tests.pinsage.trained import pins_task, tiny

RNG = np.random.default_rng(0)
LOOKS = RNG.normal(size=(40, 6)).astype(np.float32)
TEXTS = [f"{'red' if row % 2 else 'green'} thing" for row in range(40)]


def table_of(rows, looks=LOOKS):
    texts = [TEXTS[row] for row in rows]
    return FeatureTable.from_mapping({"look": looks[rows], "title": texts})


def schema_of(table, **options):
    degrees = np.zeros(table.num_rows, int)
    return fit_schema(table, np.arange(table.num_rows), degrees, log_degree=False, **options)


def unit(values):
    lengths = np.linalg.norm(values, axis=1, keepdims=True)
    return values / np.where(lengths > 0, lengths, 1)


def graph_of(edges, items=30, contexts=20):
    of_items, of_contexts = np.array(edges).T
    return ItemGraph.from_pairs(of_items, of_contexts, num_items=items, num_contexts=contexts)


def test_contexts_are_those_of_the_ten_nearest_items_that_have_some():
    known, new = table_of(np.arange(30)), table_of(np.arange(30, 40))
    edges = [(row, int(one)) for row in range(25) for one in RNG.choice(20, 1 + row % 4, False)]
    schema = schema_of(known)
    found = Lenders(lambda: known, schema).lend(new, graph_of(edges))
    looks = unit(schema.encode(table_of(np.arange(40)), np.zeros(40, int))["look"])
    words = unit(np.array([[row % 2, 1 - row % 2, 1, row % 2, 1 - row % 2] for row in range(40)]))
    cosines = (looks @ looks.T + words @ words.T) / 2
    held = [sorted(one for row, one in edges if row == item) for item in range(25)]
    for place, item in enumerate(range(30, 40)):
        near = [row for row in np.argsort(-cosines[item, :25])[:10] if cosines[item, row] > 0]
        expected = sorted({one for row in near for one in held[row]})
        assert found.contexts[place].tolist() == expected
        assert found.degrees[place] == round(np.mean([len(held[row]) for row in near]))


def test_an_item_like_no_other_borrows_nothing():
    known = FeatureTable.from_mapping({"look": [[1.0, 0.0], [-1.0, 0.0]]})
    lenders = Lenders(lambda: known, schema_of(known))
    table = FeatureTable.from_mapping({"look": [[0.0, 0.0], [1.0, 0.0]]})
    found = lenders.lend(table, graph_of([(0, 3), (1, 4)], items=2))
    assert [one.tolist() for one in found.contexts] == [[], [3]]
    assert found.degrees.tolist() == [0, 1]


def test_of_very_many_items_some_are_compared(monkeypatch):
    monkeypatch.setattr(borrowed, "MOST", 3)
    known = FeatureTable.from_mapping({"look": [[1.0, 0.0], [1.0, 0.0], [-1.0, 0.0]] * 3})
    found = Lenders(lambda: known, schema_of(known)).lend(
        known.take(np.arange(1)), graph_of([(row, row) for row in range(9)], items=9)
    )
    # Rows 0, 4 and 8, of which the last is another's opposite.
    assert [one.tolist() for one in found.contexts] == [[0, 4]]


def test_sentences_are_not_asked_for():
    table = FeatureTable.from_mapping({"title": ["red ball", "old vase"] * 2})

    def sentences(texts):
        return np.array([[len(one), 1.0] for one in texts])

    schema = schema_of(table, text_encoders={"title": sentences})
    found = Lenders(lambda: table, schema).lend(table, graph_of([(0, 1), (1, 2)], items=4))
    assert [one.tolist() for one in found.contexts] == [[1], [2], [1], [2]]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(pins_task(), tiny(), out=tmp_path_factory.mktemp("runs") / "run")


def test_items_without_contexts_are_found_more_often(run, monkeypatch):
    finished = FinishedRun.of(run)
    with_others = evaluate_fresh(finished, alone=True)["fresh"]
    monkeypatch.setattr(borrowed, "NEAREST", 1)
    with_one = evaluate_fresh(finished, alone=True)["fresh"]

    def none(_, table, __):
        contexts = [np.zeros(0, np.int32)] * table.num_rows
        return borrowed.Borrowed(contexts, np.zeros(table.num_rows, np.int64))

    monkeypatch.setattr(Lenders, "lend", none)
    without = evaluate_fresh(finished, alone=True)["fresh"]
    assert with_others["hit_rate@100"] > without["hit_rate@100"] + 0.1
    assert with_one["hit_rate@100"] > without["hit_rate@100"]


def test_an_item_has_its_own_contexts_as_soon_as_there_are_some(run):
    rows = np.arange(2)
    features = pins_task().data.features.take(rows)
    live, other = (open_items(run.path, slack=4) for _ in range(2))
    alone = live.add(["a", "b"], features).vectors
    contexts = live.contexts.ids.head(2).to_list()
    later = live.update(["a"], contexts=[contexts]).vectors
    expected = other.add(["a", "b"], features, [contexts, []]).vectors
    np.testing.assert_array_equal(later[0], expected[0])
    np.testing.assert_array_equal(live.vectors[301], alone[1])
    assert not np.allclose(later[0], alone[0])
