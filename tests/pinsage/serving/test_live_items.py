"""Items that come after training: their vectors, what they may lack, that nothing is compiled."""

import jax
import numpy as np
import polars as pl
import pytest

from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.runs import verify
from pinsage_jax import FeatureTable, fit, open_items
from pinsage_jax.config import stream
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.pinsage import STRUCTURE
from pinsage_jax.evaluation.metrics import directions
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable, build_table
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import keep_added
from pinsage_jax.serving import programs as compiled
from pinsage_jax.serving.borrowed import Lenders
from pinsage_jax.serving.live_items import GROWTH
from tests.pinsage.trained import pins_task, tiny

# So many walks that two draws of one item give nearly the same neighbours.
CONFIG = tiny(walks=600)
SLACK = 16


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return fit(pins_task(), CONFIG, out=tmp_path_factory.mktemp("runs") / "run")


@pytest.fixture(scope="module")
def flat(tmp_path_factory):
    """A run that reads features alone, and knows each training item by a vector of its own."""
    out = tmp_path_factory.mktemp("runs") / "flat"
    config = tiny(pooling="none", id_embedding=True, log_degree=False, structure=0)
    return fit(pins_task(), config, out=out)


@pytest.fixture
def live(run):
    return open_items(run.path, slack=SLACK)


def contexts_of(rows):
    """External ids of the contexts that hold items in training."""
    train = pins_task().train
    return [train.users.external(train.user_rows[train.item_rows == row]) for row in rows]


def busy_rows(count):
    """The items with the most contexts."""
    train = pins_task().train
    return np.argsort(-np.bincount(train.item_rows, minlength=train.num_items))[:count]


def features_of(rows):
    return pins_task().data.features.take(rows)


def held_back(count):
    """Held-out items, with what is told of them afterwards."""
    rows = np.flatnonzero(~pins_task().train_items)[:count]
    items, contexts = pins_task().fresh_edges
    names = pins_task().train.users
    return rows, [names.external(contexts[items == row]) for row in rows]


def snapshot(live):
    return len(live.items), live.vectors.copy()


def test_a_twin_gets_about_its_sister_s_vector(live, run):
    """Its walks differ, nothing else does."""
    rows = busy_rows(8)
    added = live.add([f"twin {row}" for row in rows], features_of(rows), contexts_of(rows))
    both = directions(added.vectors), directions(run.items.vectors[rows])
    cosines = both[0] @ both[1].T
    own, others = np.diag(cosines), cosines[~np.eye(8, dtype=bool)]
    assert own.min() > 0.7
    assert own.mean() > others.mean() + 0.1
    assert (added.without_contexts, added.unknown_contexts, added.ignored_columns) == (0, 0, 0)


def test_a_new_item_s_vector_is_that_of_a_larger_catalogue(live, run):
    """Embedded layer by layer with all others, on the same neighbours, the same comes out."""
    rows, contexts = held_back(5)
    names = [f"new {place}" for place in range(5)]
    added = live.add(names, features_of(rows), contexts)
    train, places = pins_task().train, np.arange(300, 305)
    graph = ItemGraph.from_pairs(
        train.item_rows,
        train.user_rows,
        num_items=train.num_items,
        num_contexts=train.num_users,
        item_slack=SLACK,
        edge_slack=1024,
    ).with_items(places, [train.users.rows(one) for one in contexts])
    near = build_table(
        jax.random.fold_in(stream(CONFIG, "new items"), 300),
        graph,
        neighbors=CONFIG.neighbors,
        config=CONFIG.walk_config,
        rows=places,
    )
    tables = (run.prepared.table, near)
    table = NeighborTable(
        ids=np.concatenate([np.asarray(one.ids) for one in tables]),
        weights=np.concatenate([np.asarray(one.weights) for one in tables]),
    )
    degrees = np.rint([GROWTH * len(one) for one in contexts]).astype(int)
    encoded = run.prepared.schema.encode(features_of(rows), degrees)
    own = run.prepared.structure.items(graph)[places]
    own *= (np.log1p(degrees) / np.log1p(graph.item_degrees()[places]))[:, None]
    encoded[STRUCTURE] = own.astype(np.float32)
    features = {
        name: np.concatenate([values, encoded[name]])
        for name, values in run.prepared.features.items()
    }
    whole = embed_all(run.prepared.model, run.params, features, table)
    np.testing.assert_allclose(added.vectors, whole.vectors[300:], atol=2e-6)
    np.testing.assert_array_equal(live.vectors[:300], run.items.vectors)
    for layer, expected in zip(live.layer_rows(places)[:-1], whole.layers, strict=True):
        np.testing.assert_allclose(layer, expected[300:], atol=2e-6)


def test_a_new_item_s_vector_ends_with_its_structure(live, run):
    """Its own, of the contexts that the run knows, each once; that of a twin is its sister's."""
    gain, dim = np.asarray(run.params["structure_gain"]), CONFIG.dim
    rows = busy_rows(3)
    (first, *_), names = contexts_of(rows), ["a", "b", "c", "d"]
    repeated = [*contexts_of(rows), [*first[::-1], first[0], "no board"]]
    added = live.add(names, features_of([*rows, rows[0]]), repeated, growth=1)
    parts = added.vectors[:, dim:]
    np.testing.assert_allclose(parts[:3], run.items.vectors[rows, dim:], atol=1e-5)
    np.testing.assert_allclose(parts[3], parts[0], atol=1e-6)
    own = run.prepared.structure.items(run.prepared.graph)[rows]
    np.testing.assert_allclose(parts[:3], gain * own, atol=1e-5)
    # By default it counts as in more contexts than it is in: a longer vector in its direction.
    one = live.add(["g"], features_of(rows[:1]), [first]).vectors[0, dim:]
    degrees = np.array([len(first), np.rint(GROWTH * len(first))])
    np.testing.assert_allclose(one, parts[0] * np.divide(*np.log1p(degrees)[::-1]), rtol=1e-4)
    lonely = live.add(["e", "f"], features_of(rows[:2]), [[], ["no board"]])
    features, prepared = pins_task().data.features, run.prepared
    lenders = Lenders(lambda: features, prepared.schema)
    borrowed = lenders.lend(features.take(rows[:2]), prepared.graph)
    expected = gain * prepared.structure.new_items(*borrowed)
    assert expected.any(axis=1).all()
    np.testing.assert_allclose(lonely.vectors[:, dim:], expected, atol=1e-5)
    assert lonely.vectors[:, :dim].any(axis=1).all()


def test_without_a_graph_a_twin_of_an_unknown_item_is_exact(flat):
    """A held-out item has no vector of its own, and so has none that comes later."""
    live = open_items(flat.path, slack=SLACK)
    rows, contexts = held_back(5)
    added = live.add([f"twin {row}" for row in rows], features_of(rows), contexts)
    np.testing.assert_allclose(added.vectors, flat.items.vectors[rows], atol=1e-6)
    known = busy_rows(5)
    other = live.add([f"twin {row}" for row in known], features_of(known), contexts_of(known))
    assert not np.allclose(other.vectors, flat.items.vectors[known], atol=1e-3)


def test_an_item_is_found_at_once_and_without_contexts_too(live):
    rows, _ = held_back(2)
    added = live.add(["a", "b"], features_of(rows))
    assert (added.without_contexts, added.borrowing) == (2, 2)
    everything = live.vectors
    assert len(everything) == 302
    (near,) = live.similar(["a"], k=301)
    scores = everything @ added.vectors[0]
    assert len(near.ids) == 301
    assert "a" not in near.ids
    assert "b" in near.ids
    np.testing.assert_allclose(near.scores, np.sort(np.delete(scores, 300))[::-1], atol=1e-6)
    (back,) = live.similar([near.ids[0]], k=301)
    assert back.scores[back.ids.index("a")] == pytest.approx(near.scores[0], abs=1e-6)


def test_neighbours_by_cosine_compare_directions(live):
    vectors = live.vectors.astype(np.float64)
    unit = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    (near,) = live.similar(["pin-7"], 299, by="cosine")
    row = live.items.row("pin-7")
    cosines = unit @ unit[row]
    np.testing.assert_allclose(near.scores, np.sort(np.delete(cosines, row))[::-1], atol=1e-6)
    np.testing.assert_allclose(near.scores, cosines[live.items.rows(near.ids)], atol=1e-6)
    # Lengths differ, and so the two orders do.
    assert near.ids != live.similar(["pin-7"], 299)[0].ids
    with pytest.raises(InputError, match="by: expected score or cosine, got 'angle'"):
        live.similar(["pin-7"], by="angle")


def test_more_queries_than_are_answered_at_a_time(live):
    ids = live.items.ids[:20].to_list()
    together, alone = live.similar(ids, 3), [live.similar([one], 3)[0] for one in ids[-2:]]
    assert len(together) == 20
    assert [one.ids for one in together[-2:]] == [one.ids for one in alone]


def test_unknown_contexts_are_counted(live):
    rows = busy_rows(1)
    (known,) = contexts_of(rows)
    added = live.add(["twin"], features_of(rows), [[*known, "no board", 7]])
    assert (added.unknown_contexts, added.without_contexts) == (2, 0)
    added = live.add(["stranger"], features_of(rows), [["no board"]])
    assert (added.unknown_contexts, added.without_contexts) == (1, 1)


@pytest.mark.parametrize("growth", [0.5, float("nan"), float("inf")])
def test_no_item_counts_as_in_fewer_contexts_than_it_is_in(live, growth):
    rows, contexts = held_back(1)
    with pytest.raises(InputError, match=f"growth: expected a number from 1 on, got {growth}"):
        live.add(["x"], features_of(rows), contexts, growth)


def test_columns_that_the_run_does_not_read_are_counted(live):
    price = FeatureTable.from_mapping({"price": [1.0, 2.0]}).columns
    table = FeatureTable({**features_of([0, 1]).columns, **price}, 2)
    assert live.add(["a", "b"], table).ignored_columns == 1


@pytest.mark.parametrize(
    ("ids", "rows", "contexts", "message"),
    [
        (["new", "pin-3"], 2, None, "ids: item 'pin-3' is known already"),
        (["new", "new"], 2, None, "ids: expected unique ids, but 'new' stands twice"),
        ([], 0, None, "ids: expected at least one new item"),
        (["a", "b"], 3, None, "expected one row for each new item, got .*'features': 3"),
        (["a", "b"], 2, [[]], "expected one row for each new item, got .*'contexts': 1"),
        ([f"new {at}" for at in range(17)], 17, None, "expected at most 16 new items, 17 more"),
        (["a"], 1, [[3.5]], "expected an integer or a string"),
        (["a"], 1, [["board-0"] * 3 + [None]], "expected an integer or a string"),
    ],
)
def test_an_error_changes_nothing(ids, rows, contexts, message, live):
    before = snapshot(live)
    with pytest.raises(InputError, match=message):
        live.add(ids, features_of(np.arange(rows)), contexts)
    assert snapshot(live)[0] == before[0]
    np.testing.assert_array_equal(snapshot(live)[1], before[1])


def test_features_that_do_not_fit_change_nothing(live):
    missing = pins_task().data.features.select(["words"]).take([0])
    with pytest.raises(InputError, match="expected the columns 'visual', which are missing"):
        live.add(["a"], missing)
    assert len(live.items) == 300


def test_what_cannot_be_asked_for(live):
    with pytest.raises(InputError, match="unknown id 'nobody'"):
        live.similar(["nobody"])
    with pytest.raises(InputError, match=r"k: expected 1 to .*, got 0"):
        live.similar(["pin-0"], 0)
    with pytest.warns(UserWarning, match="k: 300 were asked for, 299 other items there are"):
        (near,) = live.similar(["pin-0"], 300)
    assert len(near.ids) == 299


def test_adding_and_asking_again_compiles_nothing(live):
    rows, contexts = held_back(4)
    live.add(["a"], features_of(rows[:1]), contexts[:1])
    live.similar(["a"], 5)
    programs = (compiled.embed_new, compiled.written, compiled.nearest)
    counts = [one._cache_size() for one in programs]
    live.add(["b", "c"], features_of(rows[1:3]))
    live.add(["d"], features_of(rows[3:]), contexts[3:])
    live.similar(["b", "pin-3", "a"], 5)
    assert [one._cache_size() for one in programs] == counts


def test_new_rows_are_written_in_place(live):
    """The stored arrays are not copied, and vectors that were read before stay as they were."""
    rows, contexts = held_back(2)
    before = [one.unsafe_buffer_pointer() for one in live._arrays]
    live.add(["a"], features_of(rows[:1]), contexts[:1])
    assert [one.unsafe_buffer_pointer() for one in live._arrays] == before
    read = live.vectors
    kept = read.copy()
    live.add(["b"], features_of(rows[1:]), contexts[1:])
    np.testing.assert_array_equal(read, kept)
    np.testing.assert_array_equal(live.vectors[: len(kept)], kept)


@pytest.fixture
def kept(live, run):
    """A run whose first new items are on disk; they go again afterwards."""
    rows, contexts = held_back(5)
    sums = (run.path / "sums.json").read_bytes()
    live.add(["z", "y", "x"], features_of(rows[:3]), contexts[:3])
    keep_added(run.path, live)
    yield live
    for file in PinSageRun(run.path).fresh.iterdir():
        file.unlink()
    (run.path / "sums.json").write_bytes(sums)


def test_what_was_added_comes_back_and_goes_on(kept, run):
    again = open_items(run.path, slack=SLACK)
    assert again.items == kept.items
    np.testing.assert_array_equal(again.vectors, kept.vectors)
    assert again.similar(["x"], 4)[0].ids == kept.similar(["x"], 4)[0].ids
    rows, contexts = held_back(5)
    second = again.add(["w"], features_of(rows[3:4]), contexts[3:4])
    # What comes next is the same, whether the run was opened again or not.
    first = kept.add(["w"], features_of(rows[3:4]), contexts[3:4])
    np.testing.assert_array_equal(first.vectors, second.vectors)
    keep_added(run.path, again)
    third = open_items(run.path, slack=4)
    np.testing.assert_array_equal(third.vectors, again.vectors)
    # Items that were added before take no share of the room.
    third.add(["v"], features_of(rows[4:]))
    with pytest.raises(InputError, match="expected at most 8 new items, 4 more do not fit"):
        third.add(["r", "s", "t", "u"], features_of(rows[:4]))


@pytest.mark.slow
def test_a_run_opens_with_more_items_than_it_has_room_for_unasked(kept, run):
    """The room of 1,024 counts from the last opening on, however many were added before."""
    rows = busy_rows(1)
    for first, room in ((0, 1_100), (1_100, 8), (1_108, 1)):
        live = open_items(run.path, slack=room)
        names = [f"new-{number}" for number in range(first, first + room)]
        live.add(names, features_of(np.repeat(rows, room)), contexts_of(rows) * room)
        keep_added(run.path, live)
    for slack in ({}, {"slack": 0}):
        again = open_items(run.path, **slack)
        assert len(again.items) == len(kept.items) + 1_109
        assert again.similar(["new-1108"], 3)[0].ids == live.similar(["new-1108"], 3)[0].ids


def test_what_another_process_has_added_is_not_overwritten(kept, run):
    rows, _ = held_back(1)
    other = open_items(run.path, slack=SLACK)
    other.add(["theirs"], features_of(rows))
    keep_added(run.path, other)
    kept.add(["ours"], features_of(rows))
    with pytest.raises(InputError, match="added items were changed meanwhile"):
        keep_added(run.path, kept)
    assert "theirs" in open_items(run.path).items.ids.to_list()


@pytest.mark.usefixtures("kept")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda frame: frame.drop(" layer 1"), "added.parquet: expected the columns"),
        (
            lambda frame: frame.with_columns(pl.lit(None, pl.Float64).alias(" growth")),
            "column ' growth': expected Float64 without nulls",
        ),
        (lambda frame: frame.with_columns(pl.lit(0.5).alias(" growth")), "numbers from 1 on"),
        (
            lambda frame: frame.with_columns(pl.lit([99], pl.List(pl.Int32)).alias(" contexts")),
            "contexts: ",
        ),
        (
            lambda frame: frame.with_columns(pl.col(" layer 0").arr.head(3).list.to_array(3)),
            "added items: expected arrays of shapes",
        ),
        (lambda frame: frame.with_columns(pl.lit("pin-0").alias(" id")), "stands twice"),
    ],
)
def test_damaged_files_of_added_items_are_named(change, message, run):
    path = PinSageRun(run.path).fresh / "added.parquet"
    (run.path / "sums.json").unlink()
    change(pl.read_parquet(path)).write_parquet(path)
    with pytest.raises(InputError, match=message):
        open_items(run.path)


@pytest.mark.usefixtures("kept")
def test_a_file_of_added_items_that_is_none_is_named(run):
    (run.path / "sums.json").unlink()
    (PinSageRun(run.path).fresh / "added.parquet").write_bytes(b"PAR1 no")
    with pytest.raises(InputError, match=r"added.parquet: expected a Parquet file"):
        open_items(run.path)
    (PinSageRun(run.path).fresh / "items.parquet").write_bytes(b"")
    with pytest.raises(InputError, match="the files of an earlier version"):
        open_items(run.path)


def added_at_once(run, ids, rows, contexts, growth=GROWTH):
    """The vectors of items that were added in one go, at the rows that they have elsewhere."""
    return open_items(run.path, slack=SLACK).add(ids, features_of(rows), contexts, growth).vectors


def test_contexts_that_come_later_count_as_if_they_had_been_there(live, run):
    rows, contexts = held_back(2)
    early = [one[: len(one) // 2] for one in contexts]
    live.add(["a", "b"], features_of(rows), early)
    changed = live.update(["a", "b"], contexts=[[*one, "no board"] for one in contexts])
    assert (changed.without_contexts, changed.unknown_contexts) == (0, 2)
    expected = added_at_once(run, ["a", "b"], rows, contexts)
    np.testing.assert_array_equal(changed.vectors, expected)
    np.testing.assert_array_equal(live.vectors[300:], expected)
    # In place of those of before, and without any.
    changed = live.update(["a", "b"], contexts=[early[0], []], replace=True)
    assert changed.without_contexts == 1
    expected = added_at_once(run, ["a", "b"], rows, [early[0], []])
    np.testing.assert_array_equal(changed.vectors, expected)


def test_features_and_growth_are_corrected(live, run):
    rows, contexts = held_back(3)
    live.add(["a", "b"], features_of(rows[:2]), contexts[:2])
    live.update(["b"], features_of(rows[2:]))
    live.update(["b", "a"], growth=1)
    again = live.update(["a", "b"])  # what is known of them by now
    expected = added_at_once(run, ["a", "b"], rows[[0, 2]], contexts[:2], growth=1)
    np.testing.assert_array_equal(again.vectors, expected)


def test_a_removed_item_is_gone_and_the_others_stay(live):
    rows, contexts = held_back(4)
    vectors = live.add(["a", "b", "c", "d"], features_of(rows), contexts).vectors
    live.remove(["c", "a"])
    assert live.items.ids[300:].to_list() == ["b", "d"]
    np.testing.assert_array_equal(live.vectors[300:], vectors[[1, 3]])
    (near,) = live.similar(["d"], 301)
    assert set(near.ids) == {*live.items.ids.to_list()} - {"d"}
    # An item can come again, and what is known of the others went with them.
    live.add(["a"], features_of(rows[:1]), contexts[:1])
    changed = live.update(["d"], contexts=[[]], replace=True)
    assert changed.without_contexts == 1
    live.remove(["a", "b", "d"])
    assert len(live.items) == 300
    assert live.added is None


@pytest.mark.parametrize(
    ("ids", "message"),
    [
        (["pin-3"], "items that were added to the run, of which there are 2; 'pin-3' is one of tr"),
        (["a", "nobody"], "'nobody' is unknown"),
        (["a", "a"], "expected unique ids, but 'a' stands twice"),
        ([], "expected at least one item that was added, got none"),
    ],
)
def test_only_added_items_are_changed(ids, message, live):
    rows, contexts = held_back(2)
    live.add(["a", "b"], features_of(rows), contexts)
    before = snapshot(live)
    for change in (live.update, live.remove):
        with pytest.raises(InputError, match=message):
            change(ids)
    with pytest.raises(InputError, match=r"got \{'ids': 2, 'features': 1"):
        live.update(["a", "b"], features_of(rows[:1]))
    with pytest.raises(InputError, match="replace: expected contexts"):
        live.update(["a"], replace=True)
    with pytest.raises(InputError, match="growth: expected a number from 1 on, got 0"):
        live.update(["a"], growth=0)
    assert snapshot(live)[0] == before[0]
    np.testing.assert_array_equal(snapshot(live)[1], before[1])


def test_what_was_changed_is_kept(kept, run):
    """Features, contexts and growth are known to whoever opens the run later."""
    _, contexts = held_back(5)
    kept.remove(["y"])
    kept.update(["x"], contexts=[contexts[1]])
    keep_added(run.path, kept)
    again = open_items(run.path, slack=SLACK)
    assert again.items.ids[300:].to_list() == ["x", "z"]
    np.testing.assert_array_equal(again.vectors, kept.vectors)
    np.testing.assert_array_equal(again.update(["z", "x"]).vectors, kept.update(["z", "x"]).vectors)
    union = {*contexts[1], *contexts[2]}
    assert {*again.contexts.external(again.added.contexts[0])} == union
    again.remove(["z", "x"])
    keep_added(run.path, again)
    assert len(open_items(run.path).items) == 300
    assert not list(PinSageRun(run.path).fresh.iterdir())


def test_added_items_keep_the_sums_of_the_run(kept, run):
    assert verify(run.path).is_whole
    assert "fresh/added.parquet" in verify(run.path).files
    path = PinSageRun(run.path).fresh / "added.parquet"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + b"0")
    with pytest.raises(InputError, match=r"fresh/added\.parquet: has other bytes"):
        open_items(run.path)
    path.write_bytes(content)
    kept.remove(["x", "y", "z"])
    keep_added(run.path, kept)
    assert verify(run.path).is_whole
    assert "fresh/added.parquet" not in verify(run.path).files


def test_many_contexts_of_one_item_have_room(run):
    """Room is made for items; an item may be in all contexts."""
    live = open_items(run.path, slack=1)
    everything = live.contexts.ids.to_list()
    added = live.add(["popular"], features_of([0]), [everything])
    assert added.without_contexts == 0
    assert live.added.degrees().tolist() == [len(everything)]


def test_strings_beside_integer_ids_are_refused(live):
    """All ids of the run would become strings."""
    live.items = IdMap(live.items.ids.str.strip_prefix("pin-").cast(int))
    rows, _ = held_back(2)
    live.add(["1000"], features_of(rows[:1]))
    assert live.items.ids[300] == 1000
    with pytest.raises(InputError, match=r"expected integers, as .*\(0, …\), got 'word'"):
        live.add(["word"], features_of(rows[1:]))
    with pytest.raises(InputError, match=r"got '7.0'; '7.0' here and 7 there differ in spelling"):
        live.add(["7.0"], features_of(rows[1:]))
    assert live.items.ids.dtype == pl.Int64
    assert live.similar([1000], 2)[0].ids == live.similar(["1000"], 2)[0].ids
