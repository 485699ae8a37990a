"""What every model must do, whatever it is: one suite over all that have a name."""

import dataclasses
import json
import warnings

import jax
import numpy as np
import optax
import pytest
import safetensors.numpy

from lightgcn_jax.data import block_world, generate_world, given_split, ratio_split
from lightgcn_jax.data.pairs import Pairs
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import rank
from lightgcn_jax.evaluation.scorer import Embedded, Tables, exact_pair_scores, exact_scores
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.models import ClosedForm
from lightgcn_jax.runs import (
    Interrupted,
    RunDirectory,
    SilentReporter,
    continue_from,
    evaluate_run,
    fit,
    resume,
)
from lightgcn_jax.serving import Recommender, export
from lightgcn_jax.serving.export import is_exportable
from lightgcn_jax.settings import MODELS, flat, from_flat, model_name
from lightgcn_jax.settings.names import replaced
from tests.lightgcn import oracles
from tests.unlisted import without_sums

# Settings that suit worlds of a few dozen items.
TRAINED = {
    "dim": 16, "epochs": 40, "batch_size": 64, "negatives": 8, "learning_rate": 0.02,
    "select_by": "recall@5", "evaluate_every": 10,
}  # fmt: skip
SETTINGS = {
    "mf": TRAINED,
    "gcn": TRAINED | {"layers": 1, "init_std": 0.5},
    "sgc": TRAINED | {"layers": 2},
    "ngcf": TRAINED | {"layers": 2},
    "gnn": TRAINED | {"layers": 2, "init_std": 0.5},
    "lightgcn": TRAINED,
    "filter": {"low_pass_rank": 4},
    "gfcf": {"singular_vectors": 4},
    "spectral": {"dim": 4},
    "itemcf": {"neighbours": 7},
    "popular": {},
    "random": {},
}  # fmt: skip
# What lies between other models and is as long in compiling: fast tests leave it to its own file.
BETWEEN = ("gcn", "sgc", "gnn", "ngcf")


def among(names):
    """Models as parameters, those between others in the slow suite."""
    return [
        pytest.param(name, marks=pytest.mark.slow) if name in BETWEEN else name for name in names
    ]


PERSONAL = among(name for name in MODELS if name not in ("popular", "random"))


CLOSED = [name for name, made in MODELS.items() if issubclass(made, ClosedForm)]
WITH_VECTORS = [name for name in MODELS if name not in CLOSED or MODELS[name].has_embeddings]


def config_of(model, **changes):
    """Settings of a world here; a change to None leaves a setting out."""
    given = {"model": model, "ks": (1, 5)} | SETTINGS[model] | changes
    return from_flat({name: value for name, value in given.items() if value is not None})


# A user and an item of whom training knows nothing.
NEW_USER, NEW_ITEM = 5, 7


@pytest.fixture(scope="module")
def split():
    world = generate_world(users=60, items=40, mean_degree=8, groups=2, seed=1)
    split = ratio_split(world.interactions, seed=0)
    known = {}
    for name in ("train", "valid"):
        pairs = getattr(split, name)
        kept = (pairs.users != NEW_USER) & (pairs.items != NEW_ITEM)
        assert not kept.all()
        known[name] = Pairs(pairs.users[kept], pairs.items[kept])
    return dataclasses.replace(split, **known)


@pytest.fixture(scope="module")
def block_split():
    """Every user lacks one item of the own group of eight: the only right answer."""
    return given_split(block_world(groups=4, users_per_group=10, items_per_group=8, seed=0))


@pytest.fixture(scope="module", params=among(MODELS))
def fitted(request, split, tmp_path_factory):
    """A model's run on a world with noise, written."""
    path = tmp_path_factory.mktemp("runs") / "run"
    changes = {} if request.param in CLOSED else {"epochs": 4, "evaluate_every": 2}
    if request.param == "spectral":
        changes = {"dim": TRAINED["dim"]}  # programs for vectors of one width are shared
    return fit(split, config_of(request.param, **changes), out=path)


def answers(recommender, k=5, **filters):
    users = recommender.users.ids.to_list()
    with warnings.catch_warnings():  # the new user gets popular items, which is said
        warnings.filterwarnings("ignore", "no training interaction names user")
        found = recommender.recommend(users, k, **filters)
    return [(one.ids, one.scores.tolist()) for one in found]


def test_single_pairs_score_as_in_a_ranking(fitted, monkeypatch):
    scorer, users = fitted.scorer, np.array([3, 11, 3, NEW_USER])
    items = np.array([0, 39, 20, 1])
    table = np.asarray(jax.jit(exact_scores)(scorer, np.unique(users).astype(np.int32)))
    expected = table[items, np.searchsorted(np.unique(users), users)]
    if model_name(fitted.config) not in ("filter", "gfcf", "random"):
        monkeypatch.setattr(type(scorer), "scores", None)  # Of no other items.
    found = exact_pair_scores(scorer, users, items)
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


# What may be chosen beside the model: each must find the withheld cells too. The first is in the
# fast suite; each loss, sampler and score has tests of its own.
FAST_VARIANTS = 1
HARD = {"negative_sampler": "hard", "negatives": 4, "hard_pool": 8}
VARIANTS = [
    {"score": "mlp", "hidden": 16} | HARD,
    HARD,
    {"score": "mlp", "hidden": 16},
    {"loss": "softmax", "temperature": 0.5},
    {"score": "cosine", "loss": "softmax", "temperature": 0.2, "popularity_offset": 0.01},
    {"loss": "binary"},
    {"loss": "softmax", "sampling_correction": True},
    {"loss": "max-margin", "margin": 0.5},
    {"score": "cosine", "loss": "softmax", "temperature": 0.2},
    {"negative_sampler": "popularity", "popularity_power": 0.5},
    {"negative_sampler": "popularity", "negative_sharing": "per-user"},
    {"negative_sampler": "in-batch", "negatives": None},
    {"negative_sampler": "all", "negatives": None},
    {"reject_seen": False},
    {"learn_alphas": True},
    {"layer_combination": "last", "layers": 2},
    {"normalization": "left"},
    {"normalization": "right"},
    {"edge_dropout": 0.2},
    {"model": "mf", "biases": True},
    {"model": "ngcf", "message_dropout": 0.1, "node_dropout": 0.1},
    {"model": "gnn", "aggregate": "max"},
    {"model": "gnn", "aggregate": "sum", "combine": "add", "layers": 1},
]


@pytest.mark.parametrize(
    "settings",
    [
        pytest.param(one, marks=[pytest.mark.slow] if place >= FAST_VARIANTS else [])
        for place, one in enumerate(VARIANTS)
    ],
    ids=lambda settings: "-".join(map(str, settings.values())),
)
def test_variants_find_the_withheld_cells_and_come_back_from_disk(settings, block_split, tmp_path):
    config = config_of(**{"model": "lightgcn", "protocol": "legacy"} | settings)
    check_withheld_cells_are_found(config, block_split, tmp_path / "run")


def check_withheld_cells_are_found(config, split, path):
    result = fit(split, config, out=path)
    assert result.summary["test"]["recall@1"] == 1.0
    recommender = Recommender.from_run(path, offer_test=True)
    assert answers(recommender) == answers(Recommender.from_fit(result, offer_test=True))
    split = result.split
    withheld = dict(zip(split.test.users.tolist(), split.test.items.tolist(), strict=True))
    found = recommender.recommend(split.users.external(list(withheld)), 5)
    assert [one.ids[0] for one in found] == split.items.external(list(withheld.values()))
    if flat(config).get("score") != "mlp":  # whose vectors are compared by the network alone
        # An item's own group of eight comes first; what only adds to scores is left out.
        similar = recommender.similar_items(split.items.external([0])[0], 7).ids
        of_group = split.train.users[split.train.items == 0]
        alike = np.unique(split.train.items[np.isin(split.train.users, of_group)])
        assert set(split.items.rows(similar)) == set(alike) - {0}


@pytest.mark.parametrize("model", PERSONAL)
def test_withheld_cells_are_found(model, block_split, tmp_path):
    config = config_of(model, protocol="legacy")
    check_withheld_cells_are_found(config, block_split, tmp_path / "run")


def test_all_models_have_settings_here():
    assert list(SETTINGS) == list(MODELS)


def test_items_that_users_have_are_left_out_and_no_more_than_k_come(fitted):
    recommender, split = Recommender.from_fit(fitted), fitted.split
    size = len(split.items)
    seen = {user: set() for user in range(len(split.users))}
    for pairs in (split.train, split.valid, split.test):
        for user, item in zip(pairs.users.tolist(), pairs.items.tolist(), strict=True):
            seen[user].add(item)
    for k in (5, size):
        for user, (ids, scores) in enumerate(answers(recommender, k)):
            rows = recommender.items.rows(ids).tolist()
            assert len(rows) == len(set(rows)) == min(k, size - len(seen[user]))
            assert not seen[user] & set(rows)
            assert scores == sorted(scores, reverse=True)
            assert np.isfinite(scores).all()
    assert all(len(ids) == size for ids, _ in answers(recommender, size, exclude_seen=False))


def test_filters_leave_the_order_of_the_others(fitted):
    recommender, split = Recommender.from_fit(fitted), fitted.split
    items = split.items.ids.to_list()
    allowed, removed = items[::2], set(items[::6])
    everything = answers(recommender, len(items))
    few = len(set(allowed) - removed)
    chosen = answers(recommender, few, among=allowed, exclude=removed)
    for (ids, _), (some, _) in zip(everything, chosen, strict=True):
        assert some == [one for one in ids if one in set(allowed) - removed]


def test_figures_are_those_of_the_recommendations(fitted):
    split = fitted.split
    recommended = answers(Recommender.from_fit(fitted, offer_test=True), 5)
    known_users, known_items = set(split.train.users), set(split.train.items)
    each = []
    for user, (ids, _) in enumerate(recommended):
        relevant = split.test.items[split.test.users == user].tolist()
        relevant = [item for item in relevant if item in known_items]
        if relevant and user in known_users:
            ranked = split.items.rows(ids).tolist()
            assert len(ranked) == 5
            each.append(oracles.user_metrics(ranked, relevant, 5))
    assert each
    for name in each[0]:
        mean = np.mean([one[name] for one in each])
        assert fitted.summary["test"][f"{name}@5"] == pytest.approx(mean, rel=1e-6), name


def test_a_run_directory_gives_the_same_model(fitted):
    again = Recommender.from_run(fitted.directory)
    assert answers(again) == answers(Recommender.from_fit(fitted))
    assert again.model == model_name(fitted.config)
    figures = evaluate_run(fitted.directory, fitted.config.ks, rank_train=True)
    assert figures["train"]
    assert fitted.summary["train"] == {}
    for part in ("valid", "test", "cold"):
        assert figures[part] == fitted.summary[part]
    finished = resume(fitted.directory)
    assert finished.already_finished
    assert finished.summary == json.loads(json.dumps(fitted.summary))
    assert RunDirectory.open(fitted.directory).history() == fitted.history
    assert not list(fitted.directory.glob(".*.tmp"))


def test_the_seed_decides(fitted, split):
    config = fitted.config
    again = fit(split, config)
    assert answers(Recommender.from_fit(again)) == answers(Recommender.from_fit(fitted))
    if config.is_trained or model_name(config) == "random":
        other = fit(split, replaced(config, {"seed": 7}))
        assert answers(Recommender.from_fit(other)) != answers(Recommender.from_fit(fitted))


def test_a_users_ranking_does_not_depend_on_the_others_of_the_block(fitted):
    together = answers(Recommender.from_fit(fitted))
    recommender = Recommender.from_run(fitted.directory)
    known = np.flatnonzero(recommender.knows_user(recommender.users.ids))
    for row in known[[0, 17, -1]]:
        alone = recommender.recommend(recommender.users.ids[int(row)], 5)
        ids, scores = together[row]
        assert alone.ids == ids
        np.testing.assert_allclose(alone.scores, scores, rtol=1e-5)


def test_users_and_items_without_training_pairs_get_finite_scores(fitted, split):
    train = fitted.split.train
    assert fitted.split.users.row(split.users.ids[NEW_USER]) not in train.users
    assert fitted.split.items.row(split.items.ids[NEW_ITEM]) not in train.items
    ranking = rank(fitted.scorer, np.arange(len(split.users)), len(split.items))
    assert (np.sort(ranking.items, axis=1) == np.arange(len(split.items))).all()
    assert np.isfinite(ranking.scores).all()


def test_embeddings_and_neighbours_or_a_clear_refusal(fitted, tmp_path):
    recommender = Recommender.from_run(fitted.directory)
    model = model_name(fitted.config)
    assert (model in WITH_VECTORS) == isinstance(fitted.scorer, Embedded)
    one, other = recommender.items.external(np.unique(fitted.split.train.items)[:2])
    user = recommender.users.external(fitted.split.train.users[:1])[0]
    if model in WITH_VECTORS:
        assert fitted.user_embeddings.shape[0] == len(recommender.users)
        assert fitted.item_embeddings.shape[0] == len(recommender.items)
        assert len(recommender.similar_users(user, 4).ids) == 4
    else:
        refusal = rf"expected a model that has them \(mf, .*, filter, gfcf, spectral\), got {model}"
        for ask in (
            lambda: recommender.similar_users(user),
            lambda: fitted.item_embeddings,
        ):
            with pytest.raises(InputError, match=refusal):
                ask()
    if is_exportable(fitted.scorer):
        export(recommender, tmp_path / "e.npz")
        with np.load(tmp_path / "e.npz") as stored:
            np.testing.assert_array_equal(stored["users"], fitted.user_embeddings)
    else:
        with pytest.raises(InputError, match=f"export: expected a model whose .* got {model}, "):
            export(recommender, tmp_path / "e.npz")
        assert not list(tmp_path.iterdir())
    if model in ("popular", "random"):
        with pytest.raises(InputError, match="expected a model that has them"):
            recommender.similar_items(one)
    else:
        found = recommender.similar_items([one, other], 39)
        assert one not in found[0].ids
        assert (np.abs(found[0].scores) <= 1).all()
        similarity = dict(zip(*found[0], strict=True))[other]
        assert similarity == pytest.approx(dict(zip(*found[1], strict=True))[one], abs=1e-6) or (
            model == "itemcf"  # one of the two may have kept the other alone
        )


def test_somebody_new_is_scored_by_their_items_or_a_clear_refusal(fitted):
    recommender, split = Recommender.from_fit(fitted), fitted.split
    size, row = len(split.items), int(split.train.users[0])
    items = split.items.external(split.train.items[split.train.users == row])
    if isinstance(fitted.scorer, Tables):
        # By a vector of their own, whose oracle is that of the estimators.
        found = recommender.recommend_from(items, size)
        assert not set(found.ids) & set(items)
        assert np.isfinite(found.scores).all()
        return
    if model_name(fitted.config) not in ("filter", "gfcf", "itemcf"):
        with pytest.raises(InputError, match="one that scores a list of items"):
            recommender.recommend_from(items)
        return
    known = recommender.recommend(recommender.users.ids[row], size, exclude_seen=False)
    scores = dict(zip(*known, strict=True))
    own = csr_rows(np.zeros(len(items), int), split.items.rows(items), 1)
    trained = fitted.scorer.of_histories(own, is_trained=True)
    found = np.asarray(jax.jit(exact_scores)(trained, np.zeros(1, np.int32)))[:, 0]
    expected = [scores[one] for one in split.items.external(np.arange(size))]
    np.testing.assert_allclose(found, expected, atol=1e-5)
    new = recommender.recommend_from(items, size, exclude_given=False)
    if model_name(fitted.config) == "itemcf":  # whose cosines nobody new changes
        np.testing.assert_allclose(new.scores, [scores[one] for one in new.ids], atol=1e-5)
    # An item that is named twice counts once; those given are left out.
    unseen = recommender.recommend_from([*items, items[0]], size)
    assert set(unseen.ids) == set(new.ids) - set(items)
    assert not recommender.recommend_from([], size).scores.any()
    unknown = np.setdiff1d(np.arange(size), split.train.items)
    with pytest.raises(InputError, match="items: nothing is known of 'item"):
        recommender.recommend_from(split.items.external(unknown))
    with pytest.raises(InputError, match="items: unknown item ids: 'none such'"):
        recommender.recommend_from(["none such"])


@pytest.mark.parametrize("model", CLOSED)
class TestClosedForms:
    def test_an_unfinished_run_is_fitted_again(self, model, split, tmp_path):
        whole = fit(split, config_of(model), out=tmp_path / "run")
        (tmp_path / "run" / "summary.json").unlink()
        (tmp_path / "run" / "model.safetensors").unlink(missing_ok=True)
        with pytest.raises(InputError, match="expected a finished run"):
            Recommender.from_run(tmp_path / "run")
        again = resume(tmp_path / "run")
        assert not again.already_finished
        assert answers(Recommender.from_fit(again)) == answers(Recommender.from_fit(whole))
        times = {"fit_seconds", "compile_seconds", "evaluate_seconds"}
        for name in whole.summary.keys() - times:
            assert again.summary[name] == whole.summary[name], name

    def test_ctrl_c_says_how_to_go_on(self, model, split, tmp_path):
        class CtrlC(SilentReporter):
            def noted(self, *_):
                raise KeyboardInterrupt

        with pytest.raises(Interrupted, match="start again with: lightgcn-jax train --resume"):
            fit(split, config_of(model), out=tmp_path / "run", reporter=CtrlC())
        assert not resume(tmp_path / "run").already_finished

    def test_training_arguments_are_refused(self, model, split, tmp_path):
        with pytest.raises(InputError, match=f"optimizer: expected a model .* got {model}"):
            fit(split, config_of(model), optimizer=optax.sgd(0.1))
        with pytest.raises(InputError, match=f"epochs: a setting of mf, .*, which {model} does"):
            config_of(model, epochs=7)
        fit(split, config_of(model), out=tmp_path / "run")
        with pytest.raises(InputError, match=f"expected the run of a trained model .* {model}"):
            continue_from(tmp_path / "run", split)


@pytest.mark.parametrize(
    "model", [pytest.param(name, marks=[pytest.mark.slow] * (name != "popular")) for name in CLOSED]
)
def test_what_a_protocol_means(model, split):
    strict = fit(split, config_of(model)).summary
    assert strict["protocol_note"].startswith("strict: fitted on train, nothing selected")
    assert strict["valid"]
    assert strict["epochs"] == strict["best_epoch"] == 0
    legacy = fit(split, config_of(model, protocol="legacy"))
    assert legacy.summary["protocol_note"].startswith("legacy: fitted on train and validation")
    assert legacy.summary["valid"] == {}
    assert len(legacy.split.train) == len(split.train) + len(split.valid)


def test_several_seeds_are_fitted_one_by_one(split):
    together = fit(split, config_of("random", seeds=3, seed=4))
    recalls = [one["test"]["recall@5"] for one in together.summary["seeds"]]
    for index, recall in enumerate(recalls):
        alone = fit(split, config_of("random", seed=4 + index)).summary
        assert alone["test"]["recall@5"] == recall
    assert len(set(recalls)) > 1
    assert together.summary["test"]["recall@5"] == pytest.approx(np.mean(recalls))
    assert together.summary["embeddings_of_seed"] == 4
    kept = fit(split, config_of("random", seed=4))
    assert answers(Recommender.from_fit(together)) == answers(Recommender.from_fit(kept))
    with pytest.raises(InputError, match=r"seeds: a setting of mf, .*, random, which popular"):
        config_of("popular", seeds=2)


@pytest.fixture(scope="module")
def spectral_run(split, tmp_path_factory):
    path = tmp_path_factory.mktemp("spectral") / "run"
    fit(split, config_of("spectral"), out=path)
    return path


@pytest.mark.parametrize("damage", ["missing", "bytes", "names", "size"])
def test_damaged_model_tensors_are_named(damage, spectral_run, tmp_path):
    path = without_sums(spectral_run, tmp_path / "run") / "model.safetensors"
    if damage == "missing":
        path.unlink()
    elif damage == "bytes":
        path.write_bytes(b"no tensors")
    else:
        tensors = safetensors.numpy.load_file(path)
        users = tensors.pop("queries")
        name = "users" if damage == "names" else "queries"
        safetensors.numpy.save_file(tensors | {name: users[:-1]}, path)
    with pytest.raises(InputError, match=r"model\.safetensors: .*expected"):
        Recommender.from_run(tmp_path / "run")


def test_scorers_are_arguments_of_compiled_functions(fitted):
    """No scorer hides an array from JAX: flattened and rebuilt it scores the same."""
    leaves, structure = jax.tree.flatten(fitted.scorer)
    rebuilt = jax.tree.unflatten(structure, leaves)
    rows = np.array([3, 1])
    scores = jax.jit(lambda scorer, rows: scorer.scores(rows))
    np.testing.assert_array_equal(scores(rebuilt, rows), scores(fitted.scorer, rows))
    assert scores(rebuilt, rows).shape == (len(fitted.split.items), 2)
