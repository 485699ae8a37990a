import dataclasses
import json

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.data import (
    TEST,
    TRAIN,
    Interactions,
    Pairs,
    Split,
    block_world,
    given_split,
    leave_k_out_split,
)
from lightgcn_jax.data.pairs import merge_pairs
from lightgcn_jax.data.protocol import apply_protocol, keeps_train
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import BipartiteGraph, csr_rows
from lightgcn_jax.models import MF, LightGCN, Popular
from lightgcn_jax.runs import (
    RunDirectory,
    SilentReporter,
    TrainingDiverged,
    evaluate_run,
    fit,
    refit,
)
from lightgcn_jax.runs import directory as run_directory
from lightgcn_jax.runs.checkpoint import load_checkpoint
from lightgcn_jax.runs.summary import seed_statistics
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings import ClosedFormConfig, TrainConfig, flat, from_flat
from lightgcn_jax.settings.names import replaced
from lightgcn_jax.training import Optimization, Strategies, plan_epoch
from tests.lightgcn import oracles
from tests.unlisted import without_sums


def pair_set(pairs):
    return set(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))


@pytest.fixture(scope="module")
def fitted(small_split, small_config, tmp_path_factory):
    """The run that tests look at and copy."""
    path = tmp_path_factory.mktemp("runs") / "run"
    config = replaced(small_config, {"rank_train": True})
    return fit(small_split, config, out=path, data={"dataset": "small"})


@pytest.fixture(scope="module")
def run(fitted):
    return fitted.directory


# What every model must do: on a world whose withheld cells have one right answer, find it.


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": 0},
        {"backend": "segment", "layers": 2, "alphas": (0.0, 0.5, 0.5)},
        {
            "sampling": "users", "negatives": 1, "negative_sharing": "per-user",
            "schedule": "cosine", "warmup_epochs": 1.0,
        },
    ],
    ids=lambda settings: next(iter(settings.items()))[0] + "=" + str(next(iter(settings.values()))),
)  # fmt: skip
def test_withheld_cells_are_found(settings):
    split = given_split(block_world(groups=4, users_per_group=10, items_per_group=8, seed=0))
    base = {
        "dim": 16, "epochs": 40, "batch_size": 64, "negatives": 8, "learning_rate": 0.02,
        "ks": (1, 5), "select_by": "recall@1", "protocol": "legacy", "evaluate_every": 10,
    }  # fmt: skip
    result = fit(split, from_flat(base | settings))
    assert result.summary["test"]["recall@1"] == 1.0
    assert result.history[-1]["loss"] < result.history[0]["loss"] / 2


def test_summary_matches_an_independent_ranking(fitted, small_split):
    users, items = fitted.user_embeddings, fitted.item_embeddings
    assert users.shape == (len(small_split.users), 8)
    known = pair_set(small_split.train) | pair_set(small_split.valid)
    for part, left_out in (
        ("train", set()),
        ("valid", pair_set(small_split.train)),
        ("test", known),
    ):
        relevant = pair_set(getattr(small_split, part))
        each = []
        for user in range(len(users)):
            wanted = [item for (u, item) in relevant if u == user]
            if wanted:
                seen = [item for (u, item) in left_out if u == user]
                ranked = oracles.stable_top_k(items @ users[user], 10, seen)
                each.append(oracles.user_metrics(ranked, wanted, 10))
        for name in each[0]:
            mean = np.mean([one[name] for one in each])
            assert fitted.summary[part][f"{name}@10"] == pytest.approx(mean, abs=2e-3), (part, name)
    best = fitted.summary["best_epoch"]
    record = next(record for record in fitted.history if record["epoch"] == best)
    assert fitted.summary["valid"] == record["valid"]
    assert record["valid"]["recall@10"] == max(
        record["valid"]["recall@10"] for record in fitted.history if "valid" in record
    )


def test_without_a_directory_a_run_is_the_same(fitted, small_split, small_config):
    result = fit(small_split, replaced(small_config, {"epochs": 2, "rank_train": True}))
    assert result.directory is None
    assert result.history == fitted.history[:2]


def test_strict_never_looks_at_test_before_the_end(fitted):
    assert all("test" not in record for record in fitted.history)
    assert fitted.summary["protocol"] == "strict"


def test_legacy_joins_validation_selects_on_test_and_is_labelled(small_split, small_config):
    result = fit(small_split, replaced(small_config, {"protocol": "legacy"}))
    assert pair_set(result.split.train) == pair_set(small_split.train) | pair_set(small_split.valid)
    assert not len(result.split.valid)
    tested = [record["test"]["recall@10"] for record in result.history if "test" in record]
    assert result.summary["test"]["recall@10"] == max(tested)
    assert "TEST" in result.summary["protocol_note"]
    assert result.summary["valid"] == {}


def test_strict_carves_validation_where_there_is_none(small_split):
    legacy = apply_protocol(small_split, "legacy")
    strict = apply_protocol(legacy, "strict")
    assert pair_set(strict.train) | pair_set(strict.valid) == pair_set(legacy.train)
    assert len(strict.valid)
    assert pair_set(strict.test) == pair_set(small_split.test)


@pytest.mark.parametrize("protocol", ["strict", "legacy", "fixed", "all"])
def test_whether_a_protocol_keeps_train_is_told_without_applying_it(small_split, protocol):
    without_valid = apply_protocol(small_split, "legacy")
    for split in (small_split, without_valid, apply_protocol(small_split, "all")):
        try:
            kept = apply_protocol(split, protocol).train is split.train
        except InputError:  # no test pairs, which fit says
            continue
        assert keeps_train(split, protocol) == kept


@pytest.mark.slow
def test_seeds_together_are_seeds_alone(small_split, small_config, tmp_path):
    # Patience makes seeds stop at different epochs: each keeps what it had alone.
    config = replaced(small_config, {"evaluate_every": 1, "patience": 1, "epochs": 8})
    together = fit(small_split, replaced(config, {"seeds": 3}), out=tmp_path / "run")
    for seed, got in enumerate(together.summary["seeds"]):
        alone = fit(small_split, replaced(config, {"seed": seed}))
        assert got["seed"] == seed
        assert got["best_epoch"] == alone.summary["best_epoch"]
        mine = [record for record in together.history if record["seed"] == seed]
        losses = [record["loss"] for record in alone.history]
        np.testing.assert_allclose(
            [record["loss"] for record in mine[: len(losses)]], losses, rtol=1e-5
        )
        for part in ("train", "valid", "test"):
            for name, value in alone.summary[part].items():
                assert got[part][name] == pytest.approx(value, abs=2e-3), (seed, part, name)
        if seed == together.summary["embeddings_of_seed"]:
            np.testing.assert_allclose(
                together.user_embeddings, alone.user_embeddings, rtol=1e-3, atol=1e-5
            )
    recalls = [seed["test"]["recall@10"] for seed in together.summary["seeds"]]
    assert together.summary["test"]["recall@10"] == pytest.approx(np.mean(recalls))
    spread = together.summary["statistics"]["test"]["recall@10"]
    # Student's t for two degrees of freedom: 4.3027.
    assert spread["ci95_half_width"] == pytest.approx(
        4.302653 * np.std(recalls, ddof=1) / 3**0.5, rel=1e-5
    )
    assert together.summary["embeddings_of_seed"] in (0, 1, 2)
    assert seed_statistics([0.5]) == {"mean": 0.5}


def test_patience_stops_early(small_split, small_config):
    config = replaced(small_config, {"epochs": 50, "evaluate_every": 1, "patience": 2})
    summary = fit(small_split, config).summary
    assert summary["stopped_by"] == "patience"
    assert summary["epochs"] == summary["best_epoch"] + 2


def test_a_diverged_loss_stops_and_keeps_the_last_checkpoint(small_split, small_config, tmp_path):
    config = replaced(small_config, {"learning_rate": 1e30, "epochs": 20})
    with pytest.raises(TrainingDiverged, match=r"at step \d+ of \d+ of epoch \d+ \(seed 0\)"):
        fit(small_split, config, out=tmp_path / "run")
    assert (tmp_path / "run" / "config.json").exists()
    assert RunDirectory.open(tmp_path / "run").summary() is None


def gradient_descent_that_fails(bad):
    """NaN after ``bad`` steps; the number is state, so that one program serves all numbers."""

    def update(updates, state, params=None):
        del params
        rate = jnp.where(state["count"] == state["bad"], jnp.nan, -0.1)
        state = state | {"count": state["count"] + 1}
        return jax.tree.map(lambda update: rate * update, updates), state

    def init(params):
        del params
        return {"count": jnp.zeros((), jnp.int32), "bad": jnp.full((), bad, jnp.int32)}

    return optax.GradientTransformation(init, update)


@pytest.mark.parametrize("bad", [0, 6, 11])
def test_the_step_at_which_the_loss_diverged_is_named(bad, small_split, small_config, tmp_path):
    """The update after ``bad`` steps is NaN, and the next step's loss the first to show it."""
    optimizer = gradient_descent_that_fails(bad)
    steps = -(-len(small_split.train) // small_config.optimization.batch_size)
    epoch, step = divmod(bad + 1, steps)
    expected = rf"became nan at step {step + 1} of {steps} of epoch {epoch + 1} \(seed 0\)"
    with pytest.raises(TrainingDiverged, match=expected):
        fit(small_split, small_config, out=tmp_path / "run", optimizer=optimizer)
    found = load_checkpoint(
        tmp_path / "run" / "checkpoints",
        Trainer(small_split, small_config, optimizer, None, SilentReporter()).array_template(),
    )
    # What was saved before is whole and finite.
    assert (found is None) == (epoch == 0)
    if found is not None:
        assert np.isfinite(found.arrays.states.params.model.table).all()


@pytest.mark.usefixtures("curves")
def test_fixed_trains_on_everything_and_ranks_test_once(small_split, small_config, tmp_path):
    config = replaced(small_config, {"protocol": "fixed", "epochs": 4})
    result = fit(small_split, config, out=tmp_path / "run")
    assert pair_set(result.split.train) == pair_set(small_split.train) | pair_set(small_split.valid)
    assert all(record.keys() == {"epoch", "seed", "loss"} for record in result.history)
    assert result.summary["best_epoch"] == result.summary["epochs"] == 4
    assert result.summary["selected_by"] == "nothing"
    assert result.summary["protocol_note"].startswith("fixed: trained on train and validation")
    assert evaluate_run(tmp_path / "run", config.ks)["test"] == result.summary["test"]
    assert (tmp_path / "run" / "loss.png").exists()
    assert not (tmp_path / "run" / "metrics.png").exists()


@pytest.mark.slow
def test_fixed_keeps_the_first_of_several_seeds(small_split, small_config, tmp_path):
    config = replaced(small_config, {"protocol": "fixed", "epochs": 2, "seeds": 2, "seed": 4})
    summary = fit(small_split, config, out=tmp_path / "run").summary
    assert summary["embeddings_of_seed"] == summary["seeds"][0]["seed"] == 4
    assert evaluate_run(tmp_path / "run", config.ks)["test"] == summary["seeds"][0]["test"]


@pytest.mark.slow
def test_refit_trains_the_chosen_epochs_on_train_and_validation(
    small_split, small_config, tmp_path
):
    config = replaced(small_config, {"schedule": "cosine"})
    chosen = fit(small_split, config, out=tmp_path / "run").summary["best_epoch"]
    result = refit(tmp_path / "run", out=tmp_path / "refit")
    assert result.config == replaced(
        config, {"protocol": "fixed", "epochs": chosen, "schedule_epochs": 6}
    )
    expected = fit(small_split, result.config)
    np.testing.assert_array_equal(result.user_embeddings, expected.user_embeddings)
    with pytest.raises(InputError, match=r"expected a finished run under strict.* under fixed"):
        refit(tmp_path / "refit")


def test_refit_of_a_closed_form_fits_on_everything(small_split, tmp_path):
    fit(small_split, ClosedFormConfig(ks=(5,)), model=Popular(), out=tmp_path / "run")
    again = refit(tmp_path / "run")
    popularity = np.bincount(again.split.train.items, minlength=len(small_split.items))
    np.testing.assert_array_equal(again.scorer.popularity, popularity)
    assert len(again.split.train) == len(small_split.train) + len(small_split.valid)


@pytest.mark.slow
def test_users_and_items_without_training_pairs_stay_finite(small_config):
    interactions = Interactions.from_arrays(
        [0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 5, 0], parts=[TRAIN] * 4 + [TEST] * 2
    )
    config = replaced(small_config, {"protocol": "legacy", "ks": (2,), "negatives": 4})
    result = fit(given_split(interactions), config)
    assert np.isfinite(result.user_embeddings).all()
    assert np.isfinite(result.item_embeddings).all()


@pytest.mark.slow
def test_a_user_with_every_item_trains(small_config):
    users, items = np.divmod(np.arange(40), 8)
    keep = (users == 0) | (items % 2 == users % 2)
    split = leave_k_out_split(Interactions.from_arrays(users[keep], items[keep]), k=1)
    config = replaced(small_config, {"ks": (2,)})
    for sharing in ("shared", "per-user"):
        result = fit(split, replaced(config, {"negative_sharing": sharing}))
        assert np.isfinite(result.user_embeddings).all()


def test_cutoffs_that_do_not_fit_the_data(small_split, small_config, tmp_path):
    with pytest.raises(InputError, match=r"ks: expected cut-offs of at most \d+ \(the catalogue's"):
        fit(small_split, replaced(small_config, {"ks": (5, 10, 1000)}), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_one_cutoff_alone_chooses_the_epoch_at_it(small_split, small_config, tmp_path):
    """It may be a NumPy scalar; what is written and read back is a plain number."""
    assert TrainConfig(ks=(5,)).metric == "recall@5"
    config = TrainConfig(
        model=small_config.model,
        negatives=small_config.negatives,
        optimization=dataclasses.replace(small_config.optimization, epochs=1),
        ks=(np.int64(10),),
    )
    assert config == dataclasses.replace(config, ks=(10,))
    summary = fit(small_split, config, out=tmp_path / "run").summary
    assert summary["selected_by"] == "valid recall@10"
    stored = RunDirectory.open(tmp_path / "run").config
    assert stored == config
    assert type(stored.ks[0]) is int


def test_legacy_needs_test_pairs(small_split, small_config):
    nothing = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32))
    split = dataclasses.replace(small_split, test=nothing)
    with pytest.raises(InputError, match="expected test pairs to choose the epoch on"):
        fit(split, replaced(small_config, {"protocol": "legacy"}))
    assert fit(split, small_config).summary["test"] == {}


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"model": Popular(), "optimizer": optax.sgd(0.1)}, "optimizer: .* trained .* got popular"),
        ({"model": Popular(), "loss": abs}, "loss: expected a model that is trained .* popular"),
        ({"config": TrainConfig(), "model": Popular()}, r"model: expected an instance of Model"),
        (
            {"config": ClosedFormConfig(), "model": MF()},
            "model: expected an instance of ClosedForm",
        ),
        ({"model": MF, "loss": abs}, "model: expected an instance of Model, got <class"),
        ({"loss": "bpr"}, "loss: expected a function of positive, negatives and valid, got 'bpr'"),
        ({"negatives": 256}, r"negatives: expected a sampler such as SharedNegatives\(256\)"),
    ],
)
def test_strategies_that_do_not_fit(arguments, message, small_split):
    with pytest.raises(InputError, match=message):
        fit(small_split, arguments.pop("config", None), **arguments)


def test_matrix_factorisation_pays_for_no_layer():
    """An epoch of 396 steps over Gowalla's nodes is 4 calls; layers add the passes over edges."""
    users, items = np.arange(81_012) % 29_858, np.arange(81_012) % 40_981
    graph = BipartiteGraph.from_pairs(users, items, num_users=29_858, num_items=40_981)
    optimization = Optimization(batch_size=205)
    plain = plan_epoch(graph, Strategies(MF(), optimization=optimization))
    diffused = plan_epoch(graph, Strategies(LightGCN(), optimization=optimization))
    assert (plain.steps_per_epoch, plain.calls, plain.steps_per_call) == (396, 4, 99)
    # 12 N tables and 4 E for each of 3 layers, beside 12 N alone.
    layers = 1 + 3 * 4 * graph.num_edges / (12 * graph.num_nodes)
    assert plain.calls * layers <= diffused.calls < 2 * plain.calls * layers


# Run directories.


def test_a_run_is_complete_without_the_data(run, small_split, small_config):
    opened = RunDirectory.open(run)
    assert opened.config == replaced(small_config, {"rank_train": True})
    assert opened.data == {"dataset": "small"}
    for part in ("train", "valid", "test"):
        assert pair_set(getattr(opened.split, part)) == pair_set(getattr(small_split, part))
    assert opened.split.users == small_split.users
    assert opened.split.items == small_split.items
    assert opened.split.description == small_split.description


def test_evaluate_run_agrees_with_its_summary(run):
    summary = RunDirectory.open(run).summary()
    again = evaluate_run(run, (3, 10), rank_train=True)
    assert evaluate_run(run, (3, 10))["train"] == {}
    for part in ("train", "valid", "test"):
        assert again[part]["recall@10"] == pytest.approx(summary[part]["recall@10"], rel=1e-9)
        assert "recall@3" in again[part]
    with pytest.raises(InputError, match="ks: expected 1 to"):
        evaluate_run(run, (1000,))


def test_a_directory_that_holds_something_is_left_alone(small_split, small_config, tmp_path):
    (tmp_path / "precious").write_text("mine")
    with pytest.raises(InputError, match="expected a new or empty directory"):
        fit(small_split, small_config, out=tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["precious"]


def test_foreign_and_other_versions_directories(run, tmp_path):
    with pytest.raises(InputError, match="expected a run directory, there is none"):
        RunDirectory.open(tmp_path / "nowhere")
    with pytest.raises(InputError, match=r"it holds no config\.json"):
        RunDirectory.open(tmp_path)
    settings = json.loads((run / "config.json").read_text())
    for content, message in (
        (json.dumps(settings | {"format": 99}), "expected a run of format 2, got 99"),
        (
            json.dumps(settings | {"config": [1]}),
            r"json: config: expected settings by name, got \[1\]",
        ),
        (json.dumps(settings | {"own": [1]}), r"own: expected descriptions by field, got \[1\]"),
        (
            json.dumps({"format": 2}),
            "config: expected settings by name, it is missing",
        ),
        (json.dumps({"versions": [1]}), "got None; open it with .* of an unknown version"),
        ("{", "expected JSON"),
        ("[]", r"config\.json: expected an object"),
    ):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=message):
            _ = RunDirectory.open(tmp_path).config


# As the first format has them: one table of settings for every model, and no objects of one's own.
FIRST_FORMAT = {
    "format": 1,
    "versions": {"lightgcn-pinsage-jax": "0.1.0", "jax": "0.10.2"},
    "config": {"model": "lightgcn", "dim": 8, "layers": 2, "negatives": 16, "ordering": "none"},
    "optimizer": "adam",
    "data": {"dataset": "small"},
    "split": {"description": "random", "notes": [], "report": []},
}


def test_a_run_of_the_first_format_names_the_version_that_wrote_it(run, tmp_path):
    old = without_sums(run, tmp_path / "old")
    (old / "config.json").write_text(json.dumps(FIRST_FORMAT))
    with pytest.raises(InputError) as refused:
        evaluate_run(old, (10,))
    assert str(refused.value) == (
        f"{old}: expected a run of format 2, got 1; open it with the version that wrote it, "
        f"lightgcn-pinsage-jax 0.1.0"
    )


def test_settings_that_came_after_a_run_have_their_defaults(run, small_config, tmp_path):
    settings = json.loads((run / "config.json").read_text())
    ranked = replaced(small_config, {"rank_train": True})
    assert settings["config"] == json.loads(json.dumps(flat(ranked)))
    del settings["config"]["model"], settings["config"]["edge_dropout"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert RunDirectory.open(tmp_path).config == ranked
    settings["config"]["from_the_future"] = 1
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match=r"config\.from_the_future: expected a setting"):
        _ = RunDirectory.open(tmp_path).config


@pytest.mark.parametrize("content", [b"", b"\x08\x00\x00\x00\x00\x00\x00\x00{} and no more"])
def test_damaged_pairs_are_named(run, content, tmp_path):
    copy = without_sums(run, tmp_path / "copy")
    (copy / "pairs.safetensors").write_bytes(content)
    with pytest.raises(
        InputError, match=r"pairs\.safetensors: expected train, valid and test pairs"
    ):
        _ = RunDirectory.open(copy).split


def test_a_run_that_could_not_be_written_leaves_nothing(
    small_split, small_config, tmp_path, monkeypatch
):
    def no_space(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("lightgcn_jax.runs.directory.write_json", no_space)
    with pytest.raises(OSError, match="No space left"):
        fit(small_split, small_config, out=tmp_path / "run")
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_leaves_what_was_saved(run, monkeypatch):
    before = (run / "summary.json").read_bytes()

    def no_space(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_text", no_space)
    with pytest.raises(OSError, match="No space left"):
        RunDirectory.open(run).write_summary({})
    assert (run / "summary.json").read_bytes() == before
    assert not list(run.glob("*.tmp"))
    assert not list(run.glob(".*.tmp"))


def test_merged_pairs_are_a_union():
    one = Pairs.from_rows(np.array([1, 0]), np.array([2, 3]))
    other = Pairs.from_rows(np.array([1, 4]), np.array([2, 0]))
    assert pair_set(merge_pairs(one, other)) == {(0, 3), (1, 2), (4, 0)}


def test_format_version_is_written(run):
    written = json.loads((run / "config.json").read_text())
    assert written["format"] == run_directory.FORMAT_VERSION
    assert written["versions"]["jax"]


def test_rows_of_parts_match_the_pairs(small_split):
    assert isinstance(small_split, Split)
    rows = csr_rows(small_split.test.users, small_split.test.items, len(small_split.users))
    assert np.asarray(rows.columns).tolist() == small_split.test.items.tolist()
