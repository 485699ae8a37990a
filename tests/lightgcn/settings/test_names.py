"""Flat settings, as the command line and run directories write them, and back."""

import json
from typing import get_args

import hypothesis.strategies as st
import numpy as np
import pytest
from hypothesis import given, settings

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import MF, MLP, Cosine, GfCf, Inner, LightGCN, Score
from lightgcn_jax.settings import PRESETS, ClosedFormConfig, TrainConfig, flat, from_flat
from lightgcn_jax.settings.names import DEFAULTS, KINDS, flag_documentation, replaced
from lightgcn_jax.settings.registry import CHOICES, MODELS, OWN, misplaced, names_of, owners, reads
from lightgcn_jax.training import (
    BPR,
    AllItems,
    HardNegatives,
    MaxMargin,
    Optimization,
    PerUserNegatives,
    SharedNegatives,
    Softmax,
)

POSITIVE = st.floats(1e-6, 1e3)
AT_LEAST_0 = st.floats(0, 1e3)
SHARES = st.floats(0, 0.99)
ANY = st.floats(-9, 9)
COUNTS, SIZES = st.integers(1, 9), st.integers(0, 9)
OF_KIND = {
    "dim": COUNTS, "layers": COUNTS, "init_std": POSITIVE, "edge_dropout": SHARES,
    "message_dropout": SHARES, "node_dropout": SHARES, "singular_vectors": COUNTS,
    "low_pass_weight": AT_LEAST_0, "svd_iterations": SIZES, "oversampling": SIZES,
    "singular_value_power": AT_LEAST_0, "degree_power": AT_LEAST_0, "neighbours": COUNTS,
    "popularity_offset": AT_LEAST_0, "hidden": COUNTS, "temperature": POSITIVE,
    "margin": AT_LEAST_0, "negative_weight": POSITIVE,
    "negatives": COUNTS, "hard_pool": st.integers(9, 99),
    "popularity_power": AT_LEAST_0, "epochs": COUNTS, "batch_size": COUNTS,
    "learning_rate": POSITIVE, "schedule_epochs": st.just(0) | st.integers(9, 99),
    "warmup_epochs": AT_LEAST_0, "l2": AT_LEAST_0, "evaluate_every": COUNTS, "patience": SIZES,
    "accumulate": COUNTS,
    "ks": st.lists(COUNTS, min_size=1, unique=True).map(tuple), "seed": SIZES, "seeds": COUNTS,
    "polynomial_degree": COUNTS, "flatness": AT_LEAST_0, "sharpening": AT_LEAST_0,
    "low_pass_rank": SIZES, "low_pass_gain": AT_LEAST_0, "item_power": ANY, "low_pass_power": ANY,
    "user_power": ANY, "svd_refinements": SIZES,
    "checkpoint_seconds": AT_LEAST_0, "alphas": st.none(), "select_by": st.none(),
}  # fmt: skip


def values_of(name):
    """Values of a setting that are right by themselves."""
    if name in OF_KIND:
        return OF_KIND[name]
    return st.booleans() if KINDS[name] is bool else st.sampled_from(get_args(KINDS[name]))


@st.composite
def flat_settings(draw):
    """Any choices, and any settings that are read beside them."""
    made = {choice: draw(st.sampled_from([*names])) for choice, names in CHOICES.items()}
    if made["model"] in ("filter", "gfcf", "spectral", "itemcf", "popular", "random"):
        made = {"model": made["model"]}
    for name in KINDS:
        if name not in CHOICES and not misplaced(made, name) and draw(st.booleans()):
            value = draw(values_of(name))
            made |= {} if value is None else {name: value}
    # What fits only beside others.
    if made.get("layer_combination") == "last":
        made.pop("learn_alphas", None)
    elif made["model"] == "lightgcn" and draw(st.booleans()):
        count = made.get("layers", DEFAULTS["layers"]) + 1
        made["alphas"] = tuple(draw(st.lists(st.floats(-1, 1), min_size=count, max_size=count)))
    if made.get("biases"):
        for name in ("popularity_offset", "ranked_by_length", "hidden"):
            made.pop(name, None)
        made["score"] = "inner"
    if made.get("sampling_correction") and made["negative_sampler"] in ("hard", "in-batch"):
        made.pop("sampling_correction")
    if made["model"] != "mf" or made.get("accumulate", 1) > 1:
        made.pop("lazy_adam", None)
    if made.get("schedule_epochs"):
        made["epochs"] = min(made.get("epochs", 9), made["schedule_epochs"])
    if made.get("negative_sampler") == "hard":
        made["negatives"] = min(made.get("negatives", 9), made.get("hard_pool", 1024))
    if "ks" in made and "score" in made and draw(st.booleans()):
        made["select_by"] = f"ndcg@{made['ks'][-1]}"
    return made


@given(flat_settings())
@settings(max_examples=100, deadline=None)
def test_flat_settings_and_values_are_each_others_inverse(given_settings):
    config = from_flat(given_settings)
    written = flat(config)
    assert given_settings.items() <= written.items()
    assert from_flat(written) == config
    assert from_flat(json.loads(json.dumps(written))) == config
    assert replaced(config, {}) == config
    assert all(reads(written["model"], name) for name in written)


@pytest.mark.parametrize(
    "config",
    [
        TrainConfig(MF(8, biases=True), loss=MaxMargin(0.5), negatives=HardNegatives(4, 8)),
        TrainConfig(LightGCN(8, layers=1, alphas=(0.0, 1.0)), score=Cosine(0.5), loss=Softmax(0.1)),
        TrainConfig(score=MLP(5), negatives=PerUserNegatives(3, popularity_power=0.5)),
        TrainConfig(negatives=SharedNegatives(popularity_power=0)),
        TrainConfig(negatives=AllItems()),
        ClosedFormConfig(GfCf(singular_vectors=7), backend="csr"),
        *PRESETS.values(),
    ],
)
def test_values_come_back_from_flat_settings(config):
    assert from_flat(flat(config)) == config


def test_flat_settings_name_what_is_read_and_hide_what_is_none():
    written = flat(TrainConfig(MF(8)))
    assert (written["model"], written["dim"]) == ("mf", 8)
    assert {"layers", "alphas", "select_by", "hidden", "margin", "backend"}.isdisjoint(written)
    assert flat(ClosedFormConfig(GfCf()))["singular_vectors"] == 256
    assert "epochs" not in flat(ClosedFormConfig(GfCf()))


def test_numpy_scalars_are_taken_by_flat_names():
    given_settings = {"dim": np.int64(8), "learning_rate": np.float32(0.25), "ks": np.array([5])}
    config = from_flat(given_settings)
    assert config == from_flat({"dim": 8, "learning_rate": 0.25, "ks": [5]})
    assert json.loads(json.dumps(flat(config)))["learning_rate"] == 0.25


@pytest.mark.parametrize(
    ("field", "value", "message"),
    [
        ("epochs", 0, "epochs: expected a whole number of at least 1, got 0"),
        ("epochs", 2.5, "epochs: expected a whole number of at least 1, got 2.5"),
        ("epochs", True, "epochs: expected a whole number of at least 1, got True"),
        ("seed", 2**31, "seed: expected seeds below 2"),
        ("alphas", (0.5, float("nan"), 0.2, 0.1), "alphas: expected None or finite weights"),
        ("learning_rate", float("inf"), "learning_rate: expected more than 0"),
        ("ks", (10, 10), "ks: expected distinct cut-offs"),
        ("ks", (10.5,), "ks: expected distinct cut-offs of at least 1, got"),
        ("batch_size", 0, "batch_size: expected a whole number of at least 1"),
        ("layers", -1, "layers: expected a whole number of at least 0, got -1"),
        ("layers", 2.5, "layers: expected a whole number of at least 0, got 2.5"),
        ("dim", 0, "dim: expected a whole number of at least 1, got 0"),
        ("dim", 16.0, "dim: expected a whole number of at least 1, got 16.0"),
        ("dim", True, "dim: expected a whole number of at least 1, got True"),
        ("alphas", (1.0,), "alphas: expected layers \\+ 1 = 4 weights, got 1"),
        ("learning_rate", 0.0, "learning_rate: expected more than 0"),
        ("learning_rate", float("nan"), "learning_rate: expected more than 0"),
        ("l2", float("inf"), "l2: expected a number of at least 0, got inf"),
        ("sampling", "edges", "sampling: expected one of"),
        ("schedule", "steps", "schedule: expected one of"),
        ("protocol", "loose", "protocol: expected one of"),
        ("ks", (), "ks: expected distinct cut-offs of at least 1"),
        ("ks", (0,), "ks: expected distinct cut-offs of at least 1"),
        ("select_by", "recall@7", "select_by: expected one of recall@10"),
        ("init_std", 0.0, "init_std: expected more than 0, got 0.0"),
        ("backend", "dense", "backend: expected one of"),
        ("model", "svd", "model: expected one of .*'lightgcn', 'filter', 'gfcf'"),
        ("neighbours", 7, "neighbours: a setting of itemcf, which lightgcn does not read"),
        ("singular_vectors", 3, "singular_vectors: a setting of gfcf, which lightgcn does not"),
        ("temperature", 0.0, "temperature: expected more than 0, got 0.0"),
        ("temperature", -1.0, "temperature: expected more than 0, got -1.0"),
        ("edge_dropout", 1.0, "edge_dropout: expected a share of at least 0 and below 1, got 1.0"),
        ("loss", "hinge", "loss: expected one of"),
        ("score", "dot", "score: expected one of"),
        ("score", OWN, "score: expected one of .*, got 'own'"),
        ("negative_sampler", "mixed", "negative_sampler: expected one of"),
        ("negative_sharing", "some", "negative_sharing: expected one of .*, got 'some'"),
        ("hidden", 8, "hidden: a setting of score mlp, got score inner; leave it out"),
        ("margin", 0.5, "margin: a setting of loss max-margin, got loss bpr; leave it out"),
        ("sampling_correction", True, "sampling_correction: a setting of loss softmax, got loss"),
        ("popularity_power", 0.5, "popularity_power: a setting of negative_sampler popularity"),
        ("hard_pool", 64, "hard_pool: a setting of negative_sampler hard, got .* uniform"),
        ("biases", True, "biases: a setting of mf, which lightgcn does not read"),
        ("aggregate", "max", "aggregate: a setting of gnn, which lightgcn does not read"),
        ("schedule_epochs", 99, "schedule_epochs: expected 0 or at least the 100 epochs of the"),
        ("colour", "red", "colour: expected a setting of training, got another name"),
    ],
)
def test_nonsense_is_refused(field, value, message):
    with pytest.raises(InputError, match=message):
        from_flat({field: value})


@pytest.mark.parametrize(
    ("given_settings", "message"),
    [
        (
            {"loss": "max-margin", "temperature": 0.1},
            "temperature: a setting of loss bpr or binary or softmax or bilateral-softmax, got",
        ),
        (
            {"loss": "softmax", "negative_sampler": "hard", "sampling_correction": True},
            "sampling_correction: expected a sampler whose probabilities are known",
        ),
        (
            {
                "loss": "softmax",
                "negative_sampler": "in-batch",
                "sampling_correction": True,
                "sampling": "users",
            },
            "sampling_correction: expected the sampling of interactions beside in-batch",
        ),
        (
            {"negative_sampler": "hard", "negatives": 64, "hard_pool": 32},
            "negatives: expected at most hard_pool = 32 of the sampler hard, got 64",
        ),
        ({"negative_sampler": "in-batch", "negatives": 64}, "negatives: a setting of"),
        (
            {"negative_sampler": "all", "negative_sharing": "per-user"},
            "negative_sharing: a setting of negative_sampler uniform or popularity, got",
        ),
        ({"negative_sampler": "all", "reject_seen": False}, "reject_seen: a setting of negative_s"),
        ({"model": "mf", "biases": True, "score": "cosine"}, "biases: expected the score inner"),
        ({"model": "mf", "layers": 2}, "layers: a setting of gcn, .*, which mf"),
        ({"model": "mf", "backend": "csr"}, "backend: a setting of gcn, .*, which mf"),
        ({"model": "ngcf", "layers": 0}, "layers: expected a whole number of at least 1, got 0"),
        ({"layer_combination": "last", "learn_alphas": True}, "layer_combination: last has no"),
        ({"model": "gfcf", "loss": "softmax"}, "loss: a setting of mf, "),
        ({"model": "gfcf", "epochs": 7}, "epochs: a setting of mf, .*, which gfcf does not read"),
        ({"model": "popular", "seeds": 2}, r"seeds: a setting of mf, .*, random, which popular"),
        ({"score": "mlp", "popularity_offset": 0.1}, "popularity_offset: a setting of score inner"),
    ],
)
def test_combinations_that_mean_nothing_are_refused(given_settings, message):
    with pytest.raises(InputError, match=message):
        from_flat(given_settings)


def test_messages_name_the_flag():
    with pytest.raises(InputError, match=r"^--margin: a setting of loss max-margin"):
        from_flat({"margin": 0.5}, where="--")
    with pytest.raises(InputError, match=r"^--loss: expected one of"):
        from_flat({"loss": "hinge"}, where="--")


def test_given_settings_stand_in_place_of_those_before():
    base = from_flat({"loss": "softmax", "temperature": 0.2, "dim": 8})
    found = replaced(base, {"dim": 4, "learning_rate": 0.1})
    assert found == from_flat(
        {"loss": "softmax", "temperature": 0.2, "dim": 4, "learning_rate": 0.1}
    )
    # What has its default is dropped where nothing reads it any more; the rest is refused.
    assert replaced(base, {"loss": "softmax", "model": "mf"}).model == MF(8)
    assert replaced(TrainConfig(), {"loss": "max-margin"}).loss == MaxMargin()
    with pytest.raises(InputError, match=r"^temperature: a setting of loss bpr .* got loss max-ma"):
        replaced(base, {"loss": "max-margin"})
    with pytest.raises(InputError, match=r"^--preset: fast holds temperature: a setting of loss"):
        replaced(PRESETS["fast"], {"loss": "max-margin"}, "--", "--preset: fast")
    assert replaced(base, {"loss": "bpr"}).loss == BPR(0.2)
    with pytest.raises(InputError, match=r"^--margin: a setting of loss max-margin, got loss soft"):
        replaced(base, {"margin": 0.5}, "--")
    assert replaced(TrainConfig(), {"model": "gfcf"}) == ClosedFormConfig()
    assert replaced(ClosedFormConfig(), {"model": "mf", "dim": 8}).model == MF(8)


class Distance(Score):
    def __call__(self, head, users, items):
        raise NotImplementedError


def test_objects_of_ones_own_stay_where_names_change():
    score = Distance()
    config = TrainConfig(score=score, negatives=SharedNegatives(4))
    assert flat(config)["score"] == OWN
    found = replaced(config, {"negatives": 8})
    assert found == TrainConfig(score=score, negatives=SharedNegatives(8))
    assert from_flat(flat(config), own={"score": score}) == config
    assert replaced(config, {"score": "inner"}).score == Inner()


def test_every_flat_name_has_a_type_a_default_and_words_of_its_own():
    named = {name for owner in owners() for name in names_of(owner)}
    assert set(KINDS) == set(DEFAULTS) == named | {*CHOICES, "negative_sharing"}
    head, _, section = flag_documentation().partition("Attributes:\n")
    assert head == "Settings of a run.\n\n"
    told = [line.strip().partition(":")[0] for line in section.splitlines() if line[4] != " "]
    assert told == list(KINDS)
    assert all(len(line) > 4 for line in section.splitlines())


def test_defaults_are_those_of_the_values():
    for name, value in flat(TrainConfig()).items():
        assert DEFAULTS[name] == value, name
    assert from_flat({}) == TrainConfig()
    for model in MODELS:
        assert from_flat({"model": model}).model == MODELS[model]()
    assert from_flat({}).optimization == Optimization()
