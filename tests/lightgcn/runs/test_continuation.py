import jax
import numpy as np
import optax
import pytest

from lightgcn_jax.data import Interactions, ratio_split
from lightgcn_jax.errors import InputError
from lightgcn_jax.runs import (
    RunDirectory,
    SilentReporter,
    continuation,
    continue_from,
    fit,
    resume,
)
from lightgcn_jax.runs.checkpoint import checkpoint_folders, load_checkpoint
from lightgcn_jax.runs.continuation import extend_states, merge_splits
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.settings.names import replaced

PARTS = ("train", "valid", "test")


def external_pairs(split, part):
    pairs = getattr(split, part)
    return set(
        zip(split.users.external(pairs.users), split.items.external(pairs.items), strict=True)
    )


@pytest.fixture(scope="module")
def new_split():
    # Old and new users with old and new items; "user-0" is known to the old world.
    rng = np.random.default_rng(0)
    users = [f"user-{n}" for n in [0, 1, 2, 900, 901, 902] for _ in range(10)]
    items = [f"item-{rng.integers(0, 40)}" if n % 2 else f"item-{900 + n % 12}" for n in range(60)]
    return ratio_split(Interactions.from_arrays(users, items), seed=3)


@pytest.fixture(scope="module")
def old_run(small_split, small_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("old") / "run"
    fit(small_split, small_config, out=path)
    return path


def test_ids_grow_and_known_pairs_stay_in_their_part(small_split, new_split):
    merged = merge_splits(small_split, new_split)
    known = len(small_split.users)
    assert merged.users.ids[:known].to_list() == small_split.users.ids.to_list()
    assert merged.users.ids[known:].to_list() == ["user-900", "user-901", "user-902"]
    assert merged.items.ids[: len(small_split.items)].equals(small_split.items.ids)
    old_pairs = {part: external_pairs(small_split, part) for part in PARTS}
    everything_old = set.union(*old_pairs.values())
    for part in PARTS:
        fresh = external_pairs(new_split, part) - everything_old
        assert external_pairs(merged, part) == old_pairs[part] | fresh


def test_old_rows_and_moments_go_on_and_new_ones_start(old_run, small_config, new_split):
    run = RunDirectory.open(old_run)
    merged = merge_splits(run.split, new_split)
    trainer = Trainer(run.split, run.config, None, run, SilentReporter())
    old = load_checkpoint(run.checkpoints, trainer.array_template()).arrays.states
    assert old.opt_state[0].count > 0
    new = extend_states(old, run.split, merged, small_config)

    def rows(table, split, kind, ids):
        place = getattr(split, kind).rows(ids) + (len(split.users) if kind == "items" else 0)
        return np.asarray(table)[0, place]

    (old_adam, _), (new_adam, new_schedule) = old.opt_state, new.opt_state
    for kind in ("users", "items"):
        ids = getattr(run.split, kind).ids
        for before, after in (
            (old.params.model.table, new.params.model.table),
            (old_adam.mu.model.table, new_adam.mu.model.table),
            (old_adam.nu.model.table, new_adam.nu.model.table),
        ):
            np.testing.assert_array_equal(
                rows(after, merged, kind, ids), rows(before, run.split, kind, ids)
            )
    fresh = ["user-900", "user-901"]
    assert not rows(new_adam.mu.model.table, merged, "users", fresh).any()
    drawn = rows(new.params.model.table, merged, "users", fresh)
    assert 0.03 < drawn.std() < 0.3
    assert new_adam.count == old_adam.count
    assert isinstance(new_schedule, optax.ScaleByScheduleState)
    assert new_schedule.count == 0


class Broken(Exception):
    pass


class Break(SilentReporter):
    """Breaks a run off after the first call of its compiled steps."""

    def advanced(self, **_):
        raise Broken


@pytest.mark.slow
def test_continuing_trains_writes_and_resumes(old_run, new_split, small_config, tmp_path):
    before = {file: file.read_bytes() for file in old_run.rglob("*") if file.is_file()}
    whole = continue_from(old_run, new_split, out=tmp_path / "whole")
    assert {file: file.read_bytes() for file in old_run.rglob("*") if file.is_file()} == before
    assert len(whole.user_embeddings) == len(RunDirectory.open(old_run).split.users) + 3
    config = replaced(small_config, {"checkpoint_seconds": 1e9})
    with pytest.raises(Broken):
        continue_from(old_run, new_split, config, out=tmp_path / "broken", reporter=Break())
    assert [folder.name for folder in checkpoint_folders(tmp_path / "broken" / "checkpoints")] == [
        "step-000000000000"
    ]
    again = resume(tmp_path / "broken")
    # It went on from the old run's embeddings, not from a fresh draw.
    np.testing.assert_array_equal(again.user_embeddings, whole.user_embeddings)


def test_a_run_goes_on_from_its_best_epoch_in_the_order_of_the_grown_graph(
    old_run, new_split, small_config, monkeypatch
):
    config = replaced(small_config, {"ordering": "co-clustering"})
    given = {}
    monkeypatch.setattr(continuation, "fit", lambda *args, **named: given.update(named, args=args))
    continue_from(old_run, new_split, config)
    (merged, used), states = given["args"], given["initial"]
    assert used == config
    run = RunDirectory.open(old_run)
    trainer = Trainer(run.split, small_config, None, run, SilentReporter())
    best = load_checkpoint(run.checkpoints, trainer.array_template()).arrays.best
    known = len(run.split.users)
    assert not merged.users.ids[:known].equals(run.split.users.ids)
    users = merged.users.rows(run.split.users.ids)
    items = len(merged.users) + merged.items.rows(run.split.items.ids)
    table = np.asarray(states.params.model.table)[0]
    np.testing.assert_array_equal(
        table[np.concatenate([users, items])], np.asarray(best.model.table)[0]
    )
    for part in PARTS:
        expected = external_pairs(merge_splits(run.split, new_split), part)
        assert external_pairs(merged, part) == expected


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"dim": 16}, "dim: expected 8 as in"),
        ({"protocol": "legacy"}, "protocol: expected strict as in"),
        ({"seeds": 2}, "seeds: expected 1 as in"),
        ({"score": "mlp"}, "score: expected inner as in .* got mlp"),
        ({"model": "sgc"}, "model: expected lightgcn as in .* got sgc"),
    ],
)
def test_settings_that_the_embeddings_do_not_fit(change, message, old_run, new_split, small_config):
    with pytest.raises(InputError, match=message):
        continue_from(old_run, new_split, replaced(small_config, change))


def test_jax_keys_of_new_rows_differ_by_size(old_run, small_config, new_split):
    run = RunDirectory.open(old_run)
    trainer = Trainer(run.split, run.config, None, run, SilentReporter())
    states = trainer.initial_states()
    merged = merge_splits(run.split, new_split)
    grown = extend_states(states, run.split, merged, small_config)
    # No new row repeats an old row's draw.
    table = np.asarray(jax.device_get(grown.params.model.table))[0]
    assert len(np.unique(table, axis=0)) == len(table)
