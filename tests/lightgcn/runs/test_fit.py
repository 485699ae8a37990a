import dataclasses
import json
import shutil

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
from lightgcn_jax.data.protocol import apply_protocol
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.runs import RunDirectory, SilentReporter, TrainingDiverged, fit, judge_run, refit
from lightgcn_jax.runs import directory as run_directory
from lightgcn_jax.runs.checkpoint import load_checkpoint
from lightgcn_jax.runs.summary import seed_statistics
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings import TrainConfig
from tests.lightgcn import oracles


def pair_set(pairs):
    return set(zip(pairs.users.tolist(), pairs.items.tolist(), strict=True))


# What every model must do: on a world whose withheld cells have one right answer, find it.


@pytest.mark.parametrize(
    "settings",
    [
        {"layers": 3},
        {"layers": 0},
        {"layers": 2, "alphas": (0.0, 0.5, 0.5)},
        {"sampling": "users", "negatives": 1, "negative_sharing": "per-user"},
        {"schedule": "cosine", "warmup_epochs": 1.0},
        {"backend": "segment"},
    ],
    ids=lambda settings: next(iter(settings.items()))[0] + "=" + str(next(iter(settings.values()))),
)
def test_withheld_cells_are_found(settings):
    split = given_split(block_world(groups=4, users_per_group=10, items_per_group=8, seed=0))
    base = {
        "dim": 16, "epochs": 40, "batch_size": 64, "negatives": 8, "learning_rate": 0.02,
        "ks": (1, 5), "select_by": "recall@1", "protocol": "legacy", "evaluate_every": 10,
    }  # fmt: skip
    result = fit(split, TrainConfig(**base | settings))
    assert result.summary["test"]["recall@1"] == 1.0
    assert result.history[-1]["loss"] < result.history[0]["loss"] / 2


@pytest.mark.slow
def test_summary_matches_an_independent_ranking(small_split, small_config):
    result = fit(small_split, small_config)
    assert result.directory is None
    users, items = result.user_embeddings, result.item_embeddings
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
            assert result.summary[part][f"{name}@10"] == pytest.approx(mean, abs=2e-3), (part, name)
    best = result.summary["best_epoch"]
    record = next(record for record in result.history if record["epoch"] == best)
    assert result.summary["valid"] == record["valid"]
    assert record["valid"]["recall@10"] == max(
        record["valid"]["recall@10"] for record in result.history if "valid" in record
    )


def test_strict_never_looks_at_test_before_the_end(small_split, small_config):
    result = fit(small_split, small_config)
    assert all("test" not in record for record in result.history)
    assert result.summary["protocol"] == "strict"


def test_legacy_joins_validation_selects_on_test_and_is_labelled(small_split, small_config):
    result = fit(small_split, dataclasses.replace(small_config, protocol="legacy"))
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


@pytest.mark.slow
def test_seeds_together_are_seeds_alone(small_split, small_config, tmp_path):
    # Patience makes seeds stop at different epochs: each keeps what it had alone.
    config = dataclasses.replace(small_config, evaluate_every=1, patience=1, epochs=8)
    together = fit(small_split, dataclasses.replace(config, seeds=3), out=tmp_path / "run")
    for seed, got in enumerate(together.summary["seeds"]):
        alone = fit(small_split, dataclasses.replace(config, seed=seed)).summary
        assert got["seed"] == seed
        assert got["best_epoch"] == alone["best_epoch"]
        for part in ("train", "valid", "test"):
            for name, value in alone[part].items():
                assert got[part][name] == pytest.approx(value, abs=2e-3), (seed, part, name)
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
    config = dataclasses.replace(small_config, epochs=50, evaluate_every=1, patience=2)
    summary = fit(small_split, config).summary
    assert summary["stopped_by"] == "patience"
    assert summary["epochs"] == summary["best_epoch"] + 2


def test_a_diverged_loss_stops_and_keeps_the_last_checkpoint(small_split, small_config, tmp_path):
    config = dataclasses.replace(small_config, learning_rate=1e30, epochs=20)
    with pytest.raises(TrainingDiverged, match=r"at step \d+ of \d+ of epoch \d+ \(seed 0\)"):
        fit(small_split, config, out=tmp_path / "run")
    assert (tmp_path / "run" / "config.json").exists()
    assert RunDirectory.open(tmp_path / "run").summary() is None


@pytest.mark.parametrize("bad", [0, 6, 11])
def test_the_step_at_which_the_loss_diverged_is_named(bad, small_split, small_config, tmp_path):
    """The update after ``bad`` steps is NaN, and the next step's loss the first to show it."""
    rate = optax.scale_by_schedule(lambda count: jnp.where(count == bad, jnp.nan, -0.1))
    steps = -(-len(small_split.train) // small_config.batch_size)
    epoch, step = divmod(bad + 1, steps)
    expected = rf"became nan at step {step + 1} of {steps} of epoch {epoch + 1} \(seed 0\)"
    with pytest.raises(TrainingDiverged, match=expected):
        fit(small_split, small_config, out=tmp_path / "run", optimizer=rate)
    found = load_checkpoint(
        tmp_path / "run" / "checkpoints",
        Trainer(small_split, small_config, rate, None, SilentReporter()).array_template(),
    )
    # What was saved before is whole and finite.
    assert (found is None) == (epoch == 0)
    if found is not None:
        assert np.isfinite(found.arrays.states.params.model.table).all()


def test_fixed_trains_on_everything_and_ranks_test_once(small_split, small_config, tmp_path):
    config = dataclasses.replace(small_config, protocol="fixed", epochs=4)
    result = fit(small_split, config, out=tmp_path / "run")
    assert pair_set(result.split.train) == pair_set(small_split.train) | pair_set(small_split.valid)
    assert all(record.keys() == {"epoch", "seed", "loss"} for record in result.history)
    assert result.summary["best_epoch"] == result.summary["epochs"] == 4
    assert result.summary["selected_by"] == "nothing"
    assert result.summary["protocol_note"].startswith("fixed: trained on train and validation")
    assert judge_run(tmp_path / "run", config.ks)["test"] == result.summary["test"]
    assert not (tmp_path / "run" / "metrics.png").exists()


def test_fixed_keeps_the_first_of_several_seeds(small_split, small_config):
    config = dataclasses.replace(small_config, protocol="fixed", epochs=2, seeds=2, seed=4)
    assert fit(small_split, config).summary["embeddings_of_seed"] == 4


@pytest.mark.slow
def test_refit_trains_the_chosen_epochs_on_train_and_validation(
    small_split, small_config, tmp_path
):
    config = dataclasses.replace(small_config, schedule="cosine")
    chosen = fit(small_split, config, out=tmp_path / "run").summary["best_epoch"]
    result = refit(tmp_path / "run", out=tmp_path / "refit")
    assert result.config == dataclasses.replace(
        config, protocol="fixed", epochs=chosen, schedule_epochs=config.epochs
    )
    expected = fit(small_split, result.config)
    np.testing.assert_array_equal(result.user_embeddings, expected.user_embeddings)
    with pytest.raises(InputError, match=r"expected a finished run under strict.* under fixed"):
        refit(tmp_path / "refit")


def test_refit_of_a_closed_form_fits_on_everything(small_split, tmp_path):
    config = TrainConfig(model="popular", ks=(5,))
    fit(small_split, config, out=tmp_path / "run")
    again = refit(tmp_path / "run")
    popularity = np.bincount(again.split.train.items, minlength=len(small_split.items))
    np.testing.assert_array_equal(again.scorer.popularity, popularity)
    assert len(again.split.train) == len(small_split.train) + len(small_split.valid)


def test_any_optax_transformation_trains(small_split, small_config):
    result = fit(small_split, small_config, optimizer=optax.adagrad(0.5))
    assert result.history[-1]["loss"] < result.history[0]["loss"]


def test_users_and_items_without_training_pairs_stay_finite(small_config):
    interactions = Interactions.from_arrays(
        [0, 0, 1, 1, 2, 3], [0, 1, 1, 2, 5, 0], parts=[TRAIN] * 4 + [TEST] * 2
    )
    config = dataclasses.replace(
        small_config, protocol="legacy", ks=(2,), select_by="recall@2", negatives=4
    )
    result = fit(given_split(interactions), config)
    assert np.isfinite(result.user_embeddings).all()
    assert np.isfinite(result.item_embeddings).all()


@pytest.mark.slow
def test_a_user_with_every_item_trains(small_config):
    users, items = np.divmod(np.arange(40), 8)
    keep = (users == 0) | (items % 2 == users % 2)
    split = leave_k_out_split(Interactions.from_arrays(users[keep], items[keep]), k=1)
    config = dataclasses.replace(small_config, ks=(2,), select_by="recall@2")
    for sharing in ("shared", "per-user"):
        result = fit(split, dataclasses.replace(config, negative_sharing=sharing))
        assert np.isfinite(result.user_embeddings).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"ks": (5, 10, 1000)}, r"ks: expected cut-offs of at most \d+ \(the catalogue's size\)"),
    ],
)
def test_settings_that_do_not_fit_the_data(change, message, small_split, small_config, tmp_path):
    with pytest.raises(InputError, match=message):
        fit(small_split, dataclasses.replace(small_config, **change), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_legacy_needs_test_pairs(small_split, small_config):
    nothing = Pairs(np.zeros(0, np.int32), np.zeros(0, np.int32))
    split = dataclasses.replace(small_split, test=nothing)
    with pytest.raises(InputError, match="expected test pairs to choose the epoch on"):
        fit(split, dataclasses.replace(small_config, protocol="legacy"))
    assert fit(split, small_config).summary["test"] == {}


# Run directories.


@pytest.fixture(scope="module")
def run(small_split, small_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    fit(small_split, small_config, out=path, data={"dataset": "small"})
    return path


def test_a_run_is_complete_without_the_data(run, small_split, small_config):
    opened = RunDirectory.open(run)
    assert opened.config == small_config
    assert opened.data == {"dataset": "small"}
    for part in ("train", "valid", "test"):
        assert pair_set(getattr(opened.split, part)) == pair_set(getattr(small_split, part))
    assert opened.split.users == small_split.users
    assert opened.split.items == small_split.items
    assert opened.split.description == small_split.description


def test_judge_run_agrees_with_its_summary(run):
    summary = RunDirectory.open(run).summary()
    again = judge_run(run, (3, 10))
    for part in ("train", "valid", "test"):
        assert again[part]["recall@10"] == pytest.approx(summary[part]["recall@10"], rel=1e-9)
        assert "recall@3" in again[part]
    with pytest.raises(InputError, match="k: expected 1 to"):
        judge_run(run, (1000,))


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
        (json.dumps(settings | {"format": 99}), "expected a run of format 1, got 99"),
        (json.dumps({"format": 1}), "expected the fields"),
        ("{", "expected JSON"),
        ("[]", "expected a JSON object"),
    ):
        (tmp_path / "config.json").write_text(content)
        with pytest.raises(InputError, match=message):
            RunDirectory.open(tmp_path)


def test_settings_that_came_after_a_run_have_their_defaults(run, small_config, tmp_path):
    settings = json.loads((run / "config.json").read_text())
    del settings["config"]["model"], settings["config"]["neighbours"]
    (tmp_path / "config.json").write_text(json.dumps(settings))
    assert RunDirectory.open(tmp_path).config == small_config
    settings["config"]["from_the_future"] = 1
    (tmp_path / "config.json").write_text(json.dumps(settings))
    with pytest.raises(InputError, match="config: expected fields among"):
        _ = RunDirectory.open(tmp_path).config


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more"])
def test_damaged_pairs_are_named(run, content, tmp_path):
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    (copy / "pairs.npz").write_bytes(content)
    with pytest.raises(InputError, match=r"pairs\.npz: expected train, valid and test pairs"):
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
