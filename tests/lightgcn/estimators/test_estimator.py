"""Estimators against the functional core beneath them, and what they make of tables."""

import dataclasses

import numpy as np
import optax
import pandas as pd
import polars as pl
import pytest
import scipy.sparse

from lightgcn_jax import Interactions, Recommender, fit, leave_k_out_split, ratio_split, refit
from lightgcn_jax.cli import main
from lightgcn_jax.data import generate_world, undivided
from lightgcn_jax.data.also_seen import SeenIds
from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators import MF, Estimator, Filter, ItemCosine, LightGCN, Popular
from lightgcn_jax.estimators.given import Named, given_data
from lightgcn_jax.models import Filter as FilterModel
from lightgcn_jax.models import LightGCN as LightGCNModel
from lightgcn_jax.runs import RunDirectory
from lightgcn_jax.settings import ClosedFormConfig, flat

SMALL = {
    "dim": 8, "layers": 1, "epochs": 4, "batch_size": 256, "negatives": 16, "ks": (5, 10),
    "evaluate_every": 2, "learning_rate": 0.02,
}  # fmt: skip


@pytest.fixture(scope="module")
def world():
    return generate_world(users=60, items=60, mean_degree=8, groups=4, seed=1).interactions


@pytest.fixture(scope="module")
def frame(world):
    users, items = world.users.external(world.user_rows), world.items.external(world.item_rows)
    return pd.DataFrame({"visitor_id": users, "book": items})


@pytest.fixture(scope="module")
def chosen(frame):
    """A model whose epochs were chosen on a part, the figures of each epoch, and what was said."""
    told = []
    return LightGCN(**SMALL, verbose=False).fit(frame, on_epoch=told.append), told


def test_all_interactions_are_trained_on_for_the_chosen_epochs(chosen, world):
    model, told = chosen
    assert len(model.result.split.train) == len(world)
    assert model.result.config.protocol == "all"
    # The epochs of the run that chose, those of the last one are not told again.
    assert [one["epoch"] for one in told] == [1, 2, 3, 4]
    best = max(
        (one for one in told if "valid/recall@10" in one), key=lambda e: e["valid/recall@10"]
    )
    assert model.result.summary["epochs"] == best["epoch"]
    assert {"loss", "valid/ndcg@5"} <= best.keys()


def test_too_few_to_choose_by_is_said(capsys):
    LightGCN(dim=2, layers=1, epochs=1, batch_size=4, negatives=2, ks=(1,)).fit(["a", "b"], [1, 2])
    assert "too few to choose the number of epochs by: there are 1" in capsys.readouterr().err


def test_a_split_keeps_its_protocol(world):
    split = leave_k_out_split(world, 1)
    model = ItemCosine(verbose=False, ks=(10,)).fit(split)
    direct = fit(split, ClosedFormConfig(ks=(10,)), model=ItemCosine())
    assert model.result.summary["test"] == direct.summary["test"]
    assert model.evaluate(k=10) == pytest.approx(direct.summary["test"])
    test = split.test
    users, items = split.users.external(test.users), split.items.external(test.items)
    assert model.evaluate(pl.DataFrame({"user": users, "item": items}), 10) == model.evaluate(k=10)


def test_filters_of_each_user_in_the_columns_that_were_fitted(chosen, frame):
    model, _ = chosen
    user, other = frame.visitor_id.unique()[:2]
    plain = model.recommend([user, other], k=4)
    hidden = pd.DataFrame({"why": ["x"], "book": [plain[0].ids[0]], "visitor_id": [user]})
    for given in (hidden, {"visitor_id": [user], "book": [plain[0].ids[0]]}):
        found = model.recommend([user, other], k=3, exclude=given)
        assert (found[0].ids, found[1].ids) == (plain[0].ids[1:], plain[1].ids[:3])
    # Of somebody unknown too, who is recommended popular items.
    with pytest.warns(UserWarning, match="nothing is known of the users 'nobody'"):
        popular = model.recommend(["nobody"], k=2)[0].ids
    with pytest.warns(UserWarning, match="nothing is known of the users 'nobody'"):
        left = model.recommend(["nobody"], k=1, exclude={"nobody": popular[:1], user: popular})
    assert left[0].ids == popular[1:]


def test_it_answers_as_the_recommender_does(frame, world):
    model = Filter(verbose=False, low_pass_rank=4).fit(frame)
    config = ClosedFormConfig(FilterModel(low_pass_rank=4), protocol="all")
    recommender = Recommender.from_fit(fit(undivided(world), config))
    user, item = frame.visitor_id[0], frame.book[0]
    for one, two in [
        (model.recommend(user, k=5), recommender.recommend(user, 5)),
        (model.recommend_for([item], 5), recommender.recommend_from([item], 5)),
        (model.similar_items(item, 5), recommender.similar_items(item, 5)),
    ]:
        assert one.ids == two.ids
        np.testing.assert_allclose(one.scores, two.scores, rtol=1e-5)
    found = model.recommend(user, k=5)
    np.testing.assert_allclose(model.score(user, found.ids), found.scores, rtol=1e-5)
    assert model.score(user, found.ids[0]) == pytest.approx(float(found.scores[0]), rel=1e-5)


def test_a_second_fit_forgets_what_was_popular_in_the_first():
    model = Popular(verbose=False)
    for item in ("old", "new"):
        users, items = ["a", "b", "c", "c"], [item, item, item, "other"]
        with pytest.warns(UserWarning, match="popular items are the answer"):
            assert model.fit(users, items).recommend("stranger", k=2).ids == [item, "other"]


def test_everybody_in_a_frame(chosen, frame):
    model, _ = chosen
    table = model.recommend(k=2, as_frame=True)
    assert list(table.columns) == ["visitor_id", "book", "rank", "score"]
    assert isinstance(table, pd.DataFrame)
    assert len(table) == 2 * frame.visitor_id.nunique()
    assert not table.merge(frame, on=["visitor_id", "book"]).size
    assert model.recommend(["user-1"], 2, as_frame="polars")["rank"].to_list() == [1, 2]


def test_somebody_new_gets_a_vector_from_their_items(chosen):
    model, _ = chosen
    given = model.item_ids[:3]
    [vector] = model.recommender.new_user_vectors([given])
    scores = model.item_embeddings @ vector
    scores[:3] = -np.inf
    found = model.recommend_for(given, 5)
    assert found.ids == [model.item_ids[at] for at in np.argsort(-scores)[:5]]
    np.testing.assert_allclose(found.scores, np.sort(scores)[::-1][:5], rtol=1e-4)


def test_saved_and_loaded_it_is_the_same(chosen, tmp_path):
    model, _ = chosen
    loaded = LightGCN.load(str(model.save(str(tmp_path / "run"))))
    assert loaded.recommend("user-1", 5).ids == model.recommend("user-1", 5).ids
    np.testing.assert_array_equal(loaded.item_embeddings, model.item_embeddings)
    assert loaded.recommend(["user-1"], 1, as_frame=True).columns[:1] == ["visitor_id"]
    with pytest.raises(InputError, match="holds a run of lightgcn, not of mf"):
        MF.load(tmp_path / "run")


def test_settings_and_presets():
    assert LightGCN(dim=16, layers=2).as_model() == LightGCNModel(dim=16, layers=2)
    fast = LightGCN(preset="fast", epochs=3, negatives=32).config
    assert (fast.optimization.epochs, fast.negatives.negatives) == (3, 32)
    assert fast.score.popularity_offset == 0.06
    own = Estimator(LightGCNModel(dim=4), epochs=3)
    assert dataclasses.asdict(own.config.model)["dim"] == 4


@pytest.mark.slow
def test_a_preset_settles_on_the_catalogue_and_the_run_keeps_it(frame, tmp_path, capsys):
    few = {"dim": 4, "layers": 1, "alphas": (0, 1), "epochs": 1, "negatives": 16, "ks": (5,)}
    model = LightGCN(preset="fast", popularity_offset=0.3, **few).fit(frame)
    assert "Preset fast for a catalogue of 59 items: temperature 0.2\n" in capsys.readouterr().err
    held = flat(RunDirectory.open(model.save(tmp_path / "run")).config)
    assert (held["temperature"], held["popularity_offset"]) == (0.2, 0.3)
    frame.to_csv(tmp_path / "log.csv", index=False)
    typed = few | {"alphas": "0 1", "ks": 5, "preset": "fast", "data": tmp_path / "log.csv"}
    flags = [part for name, value in typed.items() for part in (f"--{name}", *str(value).split())]
    assert main(["train", *flags, "--out", str(tmp_path / "typed")]) == 0
    assert "59 items: temperature 0.2, popularity_offset 0.12\n" in capsys.readouterr().err
    assert flat(RunDirectory.open(tmp_path / "typed").config)["popularity_offset"] == 0.12


def test_low_ratings_are_not_trained_on_and_not_recommended():
    frame = {"user": [1, 1, 1, 2, 2], "item": list("abdad"), "rating": [5, 5, 1, 5, 5]}
    model = Popular(verbose=False, ks=(1,)).fit(frame, min_rating=4)
    assert len(model.result.split.train) == 4
    # User 1 gave d one star: it is hidden all the same.
    assert model.recommend(1, k=1).ids == []
    assert model.recommend(2, k=1).ids == ["b"]


def test_low_ratings_are_kept_with_the_run(tmp_path):
    frame = {"user": [1, 1, 1, 2, 2], "item": list("abdad"), "rating": [5, 5, 1, 5, 5]}
    model = Popular(verbose=False, ks=(1,)).fit(frame, min_rating=4, out=tmp_path / "fitted")
    model.save(tmp_path / "saved")
    for name in ("fitted", "saved"):
        assert Popular.load(tmp_path / name).recommend(1, k=1).ids == []
        assert len(Recommender.from_run(tmp_path / name).seen.columns) == 5
    assert len(refit_popular(tmp_path).also_seen) == 1


def refit_popular(tmp_path):
    """A run on a split whose low ratings are known, refitted on everything."""
    users, items = [1] * 12 + [2] * 11, [*"abcdefghijkl", *"bcdefghijkl"]
    rated = Interactions.from_arrays(users, items, [5.0] * 11 + [1.0] + [5.0] * 11)
    config = ClosedFormConfig(Popular().as_model(), ks=(1,))
    split = ratio_split(rated.with_min_rating(4))
    fit(split, config, out=tmp_path / "first", also_seen=SeenIds.of(rated))
    return refit(tmp_path / "first", protocol="all", out=tmp_path / "second")


def test_an_optimizer_of_one_s_own_is_remembered(frame, tmp_path):
    few = SMALL | {"epochs": 1, "evaluate_every": 1, "protocol": "fixed"}
    sgd = optax.sgd(0.1)
    model = LightGCN(**few, optimizer=sgd, verbose=False).fit(frame)
    loaded = LightGCN.load(model.save(tmp_path / "run"), verbose=False)
    assert "dim=8" in repr(loaded)
    assert "optimizer=one of your own" in repr(loaded)
    # It stays so when the run is written again, and nothing else takes its place.
    assert RunDirectory.open(loaded.save(tmp_path / "again")).optimizer == "custom"
    with pytest.raises(InputError, match=r"optimizer: the run was made with one of your own"):
        loaded.fit(frame)
    assert LightGCN.load(tmp_path / "run", optimizer=sgd).optimizer is sgd
    Popular(verbose=False, ks=(1,)).fit(frame).save(tmp_path / "popular")
    with pytest.raises(InputError, match="optimizer: expected none"):
        Popular.load(tmp_path / "popular", optimizer=sgd)


SAME = pd.DataFrame({"user": ["a", "a", "b"], "item": ["x", "y", "x"]})


@pytest.mark.parametrize(
    "given",
    [
        SAME,
        pl.DataFrame(SAME.to_dict("list")),
        pl.LazyFrame(SAME.to_dict("list")),
        SAME.to_dict("list"),
        SAME.to_dict("records"),
        SAME.to_numpy(),
        list(SAME.itertuples(index=False, name=None)),
        (SAME.user, SAME.item),
        Interactions.from_frame(SAME),
        pd.concat([SAME, pd.DataFrame({"user": [None], "item": ["z"]})]),
    ],
    ids=lambda given: type(given).__name__,
)
def test_every_form_gives_the_same_interactions(given):
    found = given_data(given).data
    pairs = zip(
        found.users.external(found.user_rows), found.items.external(found.item_rows), strict=True
    )
    assert set(pairs) == {("a", "x"), ("a", "y"), ("b", "x")}


def test_a_matrix_with_ids():
    matrix = scipy.sparse.csr_array(np.array([[1, 0], [1, 1]]))
    found = given_data(matrix, None, Named(user=["a", "b"], item=[7, 9])).data
    assert found.users.external(found.user_rows) == ["a", "b", "b"]
    assert sorted(found.items.external(found.item_rows)) == [7, 7, 9]


def test_missing_ids_and_what_is_guessed_are_said():
    frame = pd.DataFrame({"customer_id": [1, None, 3], "product_id": [7, 8, 9], "when": [1, 2, 3]})
    given = given_data(frame)
    assert given.data.users.external(given.data.user_rows) == [1, 3]
    assert given.lines == (
        "columns: user='customer_id', item='product_id'",
        "1 rows without a user or an item are left out",
    )


@pytest.mark.parametrize(
    "given",
    [
        [("a", 7), (None, 8), (" ", 9), ("b", 7)],
        np.array([["a", "7"], [np.nan, "8"], ["", "9"], ["b", "7"]], object),
        pl.DataFrame({"who": ["a", None, " ", "b"], "what": [7, 8, 9, 7]}),
        pl.DataFrame({"who": ["a", None, " ", "b"], "what": [7, 8, 9, 7]}).lazy(),
        pd.DataFrame({"who": ["a", None, " ", "b"], "what": [7, 8, 9, 7]}),
        pd.DataFrame({"who": ["a", None, " ", "b"], "what": [7, 8, 9, 7]}, dtype="string"),
        {"who": ["a", None, " ", "b"], "what": [7, 8, 9, 7]},
    ],
)
def test_rows_without_an_id_are_left_out_whatever_came(given):
    found = given_data(given)
    assert found.data.users.external(found.data.user_rows) == ["a", "b"]
    assert found.lines[-1] == "2 rows without a user or an item are left out"


def test_a_note_of_a_file_names_no_flag_that_python_lacks(tmp_path):
    path = tmp_path / "log.csv"
    path.write_text("user,item\na,7\n,8\nb,7\n")
    lines = given_data(path).lines
    assert any(
        line.endswith("1 of 3 rows are without a user or an item and are left out")
        for line in lines
    )
    assert not any("missing" in line for line in lines)


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame, pl.LazyFrame, dict])
def test_an_only_column_of_dates_is_that_of_the_times(frame):
    days = ["14.05.2025", "15.05.2025"]
    found = given_data(frame({"user": ["a", "b"], "item": [1, 2], "bought": days}))
    assert (found.data.timestamps[1] - found.data.timestamps[0]) == 24 * 3600
    assert "timestamp='bought'" in found.lines[0]
    found = given_data(frame({"user": ["a", "b"], "item": [1, 2], "bought": days, "sent": days}))
    assert found.data.timestamps is None


def test_notes_name_arguments(capsys):
    frame = {"user": [1, 1, 2], "item": [7, 8, 7], "rating": [1, 5, 4]}
    Popular(ks=(1,)).fit(frame)
    assert "min_rating= leaves them out" in capsys.readouterr().err


WEIGHED = {
    "user": ["u", "u", "v", "u"],
    "item": ["a", "b", "a", "a"],
    "amount": [2.0, 1.0, 8.0, 2.0],
}


@pytest.mark.parametrize(
    "given",
    [
        lambda: given_data(pd.DataFrame(WEIGHED), None, Named(weight="amount")),
        lambda: given_data(pl.DataFrame(WEIGHED), None, Named(weight="amount")),
        lambda: given_data(WEIGHED["user"], WEIGHED["item"], Named(weight=WEIGHED["amount"])),
    ],
    ids=["pandas", "polars", "columns"],
)
def test_a_column_weighs_where_it_is_named(given, tmp_path):
    data = given().data
    assert sorted(data.weights.tolist()) == [1, 4, 8]
    pd.DataFrame(WEIGHED).to_csv(tmp_path / "log.csv", index=False)
    of_file = given_data(str(tmp_path / "log.csv"), None, Named(weight="amount"))
    assert sorted(of_file.data.weights.tolist()) == [1, 4, 8]
    assert any("3 pairs weigh 13" in line for line in of_file.lines)
    unused = given_data(str(tmp_path / "log.csv"))
    assert any("is not used (weight=amount weighs" in line for line in unused.lines)


def test_a_fit_weighs_and_ratings_stay_ratings():
    frame = pd.DataFrame(WEIGHED).rename(columns={"amount": "count"})
    model = Popular(verbose=False).fit(frame, weight="count", min_rating=2)
    assert model.recommend("v", k=1, exclude_seen=False).scores[0] == 12


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (lambda: LightGCN(verbose=False).fit(WEIGHED, weight="weight"), "weight='weight': no such"),
        (lambda: LightGCN(verbose=False).fit("ml-100k", weight="rating"), "weight: names a column"),
        (
            lambda: Popular(verbose=False).fit(
                {**WEIGHED, "amount": [1, 0, 1, 1]}, weight="amount"
            ),
            r"weights\[1\]: expected a finite number above 0, got 0",
        ),
    ],
)
def test_weights_that_do_not_fit(given, message):
    with pytest.raises(InputError, match=message):
        given()
