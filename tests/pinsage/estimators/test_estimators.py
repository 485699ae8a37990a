"""PinSage as one object: every way in, every question, and sentences where something is wrong."""

import errno
import shutil
import stat

import numpy as np
import pandas as pd
import polars as pl
import pytest

from lightgcn_jax import Interactions
from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators.given import Named
from pinsage_jax import PinSage
from pinsage_jax.estimators.given import feature_frame, given_contexts, lists_of
from pinsage_jax.estimators.recommending import latest
from tests.pinsage.trained import CONFIG, pins

SMALL = {
    name: getattr(CONFIG, name)
    for name in (
        *("dim", "word_dim", "batch_size", "negatives", "steps_per_epoch", "epochs", "neighbors"),
        *("walks", "walk_length", "fan", "structure", "folds"),
    )
}


@pytest.fixture(scope="module")
def frames():
    """Boards and pins, and the pins' features, as pandas has them; times go along."""
    data = pins()
    edges = data.interactions
    boards = edges.users.external(edges.user_rows)
    contexts = pd.DataFrame(
        {"board": boards, "pin": edges.items.external(edges.item_rows), "time": range(len(edges))}
    )
    features = {"pin": edges.items.ids.to_list()}
    features |= {name: list(one.values) for name, one in data.features.columns.items()}
    return contexts, pd.DataFrame(features)


@pytest.fixture(scope="module")
def fitted(frames):
    told = []
    model = PinSage(**SMALL, verbose=False)
    contexts, features = frames
    fit = {"context": "board", "item": "pin", "timestamp": "time", "task": "users"}
    return model.fit(contexts, features, on_epoch=told.append, **fit), told


def test_the_figures_of_each_epoch_are_told(fitted):
    model, told = fitted
    assert [one["epoch"] for one in told][-2:] == [1, 2]
    assert {"loss", "valid/mrr"} <= told[-1].keys()
    assert model.evaluate()["mrr"] > 0
    assert len(repr(model).splitlines()) == 3
    assert model._repr_html_().startswith("<table>")


def test_similar_items_score_highest(fitted):
    model, _ = fitted
    ids, vectors = model.item_ids, model.item_embeddings.astype(float)
    scores = vectors @ vectors[ids.index("pin-3")]
    scores[ids.index("pin-3")] = -np.inf
    found = model.similar("pin-3", 5)
    assert found.ids == [ids[at] for at in np.argsort(-scores)[:5]]
    frame = model.similar(["pin-3", "pin-266"], 2, as_frame=True)
    assert list(frame.columns) == ["pin", "similar_pin", "rank", "score"]
    assert isinstance(frame, pd.DataFrame)


def test_users_are_recommended_what_they_do_not_have(fitted, frames):
    model, _ = fitted
    contexts, _ = frames
    table = model.recommend(k=3, as_frame="pandas")
    assert table.board.nunique() == contexts.board.nunique()
    assert not table.merge(contexts, on=["board", "pin"]).size
    first = model.recommend("board-0", 3)
    other = model.recommend("board-0", 3, exclude=first.ids[0])
    assert other.ids[:2] == first.ids[1:]
    with pytest.warns(UserWarning, match="nothing is known of 'nobody'"):
        assert model.recommend(["nobody"]) == [None]


def test_the_latest_items_ask():
    """Of context 1 the items of the times 9, 7 and 3."""
    known = Interactions.from_arrays([1, 1, 0, 1, 1], [4, 5, 6, 7, 8], timestamps=[3, 9, 1, 7, 2])
    items = known.items.rows([5, 7, 4]).tolist()
    assert latest(known, np.array([1]), 3).tolist() == [items]
    assert latest(known, np.array([0]), 3).tolist() == [[*known.items.rows([6]), -1, -1]]


def test_new_items_come_change_go_and_are_kept(fitted, frames, tmp_path):
    model, _ = fitted
    _, features = frames
    new = features.head(2).assign(pin=["new-1", "new-2"])
    before = len(model.item_ids)
    added = model.add(new, {"new-1": ["board-0"]})
    assert added.ids == ["new-1", "new-2"]
    assert repr(added).startswith(
        "Added 2 items: 'new-1', 'new-2'\n  contexts: none of 1, 1 of them placed by items like "
    )
    alone = model.item_embeddings[-1]
    model.update("new-2", {"new-2": ["board-1"]})
    assert not np.array_equal(model.item_embeddings[-1], alone)
    saved = model.save(str(tmp_path / "run"))
    loaded = PinSage.load(str(saved))
    assert loaded.similar("new-1", 3).ids == model.similar("new-1", 3).ids
    assert loaded.recommend("board-0", 3).ids == model.recommend("board-0", 3).ids
    assert loaded.recommend(["board-0"], 1, as_frame=True).columns[:2] == ["board", "pin"]
    loaded.remove(["new-1", "new-2"])
    loaded.save(saved)
    assert len(PinSage.load(saved).item_ids) == before
    assert len(model.item_ids) == before + 2
    model.remove(["new-1", "new-2"])


def test_a_run_is_saved_whole_or_not_at_all(fitted, tmp_path, monkeypatch):
    model, _ = fitted
    copied = shutil.copytree

    def full(*arguments, **settings):
        copied(*arguments, **settings)
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(shutil, "copytree", full)
        with pytest.raises(OSError, match="No space"):
            model.save(tmp_path / "run")
    assert not list(tmp_path.iterdir())
    private = tmp_path / "private"
    private.mkdir(0o700)
    assert model.save(private) == private
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_features_of_pandas_keep_their_kinds():
    frame = pd.DataFrame(
        {
            "sku": ["a", "b"],
            "price": [1.5, None],
            "name": ["x", None],
            "kind": pd.Categorical(["k", "l"]),
            "look": [np.zeros(2), np.ones(2)],
            "day": pd.to_datetime(["2024-01-01", "2024-01-02"]),
        }
    )
    found, id_column, _ = feature_frame(frame, None, "sku", None)
    assert id_column == "sku"
    assert found["price"].to_list() == [1.5, None]
    assert found["name"].to_list() == ["x", None]
    assert found["kind"].dtype == pl.Categorical
    assert found["look"].to_list() == [[0, 0], [1, 1]]
    assert found["day"].dtype.is_temporal()
    indexed, id_column, _ = feature_frame(frame.set_index("sku"), None, "sku", None)
    assert (id_column, indexed["sku"].to_list()) == ("sku", ["a", "b"])


def test_recommendations_to_boards_within_filters(fitted, frames):
    model, _ = fitted
    boards = frames[0]["board"].unique()[:2].tolist()
    plain = model.recommend(boards, k=4)
    found = model.recommend(boards, k=3, exclude={boards[0]: plain[0].ids[:1]})
    assert (found[0].ids, found[1].ids) == (plain[0].ids[1:], plain[1].ids[:3])
    among = model.recommend(boards[0], k=2, among=plain[0].ids[2:])
    assert among.ids == plain[0].ids[2:]
    # The catalogue is made ready once, until items come.
    recommender = model.recommender
    ready = recommender._ready
    model.recommend(boards[1], k=5)
    assert recommender._ready is ready
    own = frames[0].groupby("board")["pin"].agg(set)[boards[0]]
    others = recommender.recommend_from(sorted(own), len(model.item_ids) - len(own)).ids
    assert not own & set(others)


def test_somebody_new_is_recommended_what_goes_with_their_items(fitted):
    model, _ = fitted
    found = model.recommend_for(["pin-1", "pin-3"], k=4)
    assert found.ids == model.recommender.recommend_from(["pin-1", "pin-3"], 4).ids
    few = model.item_set(found.ids[2:])
    assert model.recommend_for(["pin-1", "pin-3"], k=2, among=few).ids == found.ids[2:]
    frame = model.recommend_for("pin-1", k=2, as_frame=True)
    assert list(frame.columns) == ["pin", "rank", "score"]


def test_the_columns_of_a_filter_are_found_by_the_names_that_were_fitted(fitted):
    model, _ = fitted
    first = model.recommend("board-0", 3).ids
    hidden = pd.DataFrame({"why": [7], "pin": first[:1], "board": ["board-0"]})
    assert model.recommend("board-0", 2, exclude=hidden).ids == first[1:]


def test_contexts_of_new_items_in_any_form():
    ids, columns = pl.Series(["a", "b"]), ("board", "pin")
    wanted = [["x", "y"], []]
    assert lists_of({"a": ["x", "y"]}, ids, columns) == wanted
    assert lists_of([["x", "y"], []], ids, columns) == wanted
    table = pd.DataFrame({"board": ["x", "y"], "pin": ["a", "a"]})
    assert lists_of(table, ids, columns) == wanted
    assert lists_of(None, ids, columns) is None


def test_every_row_of_contexts_counts():
    held, given = given_contexts({"b": [1, 1, 2], "i": [7, 7, 8]}, Named("b", "i"))
    assert len(held) == 3
    assert given.names == ("b", "i")


SENTENCES = {
    "PinSage(dims=8)": r"dims: PinSage has no such setting; did you mean dim=\?",
    "PinSage(task='users')": r"task: goes to fit, PinSage\(…\)\.fit\(…, task=…\)",
    "PinSage(lr=0.1)": r"did you mean learning_rate=\?",
    "PinSage(preset='fast')": "preset: expected one of default, paper",
    "PinSage().similar('pin-1')": r"not fitted yet: call fit\(contexts, features\)",
    "PinSage().fit(contexts[['board', 'pin', 'time']].rename(columns={'board': 'b', 'pin': 'p'}))":
        "context: which column holds the",
    "PinSage().fit(contexts, 7, context='board', item='pin')": "features: expected a frame",
    "PinSage().fit(contexts[['board', 'pin']], context='board', item='pin', task='users')":
        r"needs times; name their column, fit\(…, timestamp=…\)",
    "PinSage().fit(contexts, task='items', start=model)": "held out and learnt is the run's",
    "PinSage(dim=4).fit(contexts, features, context='board', item='pin', start=model)":
        "dim: expected 16 as in",
    "PinSage().fit(contexts, task='baskets')": "task: expected 'items' or 'users'",
    "PinSage.load('nowhere')": "nowhere",
    "model.similar('pin-1', n=3)": r"n: similar has no such argument; did you mean k=\?",
    "model.recommend_for([])": "items: expected at least one item to recommend by",
    "PinSage().fit(contexts, session='board')": r"did you mean context=\?",
    "PinSage().fit(contexts, features, epochs=3)": "it is a setting, which the constructor takes",
    "model.similar('pin-99999')": "unknown id 'pin-99999'",
    "model.recommend('nobody')": "context: nothing is known of 'nobody'; known ids look like",
    "model.add(features.head(1))": "is known already",
    "model.remove('pin-1')": "expected items that were added",
}  # fmt: skip


@pytest.mark.parametrize("line", SENTENCES)
def test_it_says_in_a_sentence_what_to_type(line, fitted, frames):
    contexts, features = frames
    names = {"PinSage": PinSage, "contexts": contexts, "features": features, "model": fitted[0]}
    with pytest.raises(InputError, match=SENTENCES[line]) as caught:
        eval(line, names)
    assert "\n" not in str(caught.value)
