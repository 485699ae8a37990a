"""A run broken off anywhere ends as one that never was, bit for bit."""

import dataclasses
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import warnings
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import MF
from lightgcn_jax.runs import (
    FitResult,
    Interrupted,
    RunDirectory,
    SilentReporter,
    continue_from,
    fit,
    node_order,
    refit,
    resume,
    trainer,
)
from lightgcn_jax.runs.checkpoint import (
    checkpoint_folders,
    find_damage,
    load_checkpoint,
    save_checkpoint,
)
from lightgcn_jax.runs.node_order import in_training_order
from lightgcn_jax.runs.progress import Progress, TrainArrays
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.serving import Recommender
from lightgcn_jax.settings.names import replaced
from lightgcn_jax.training.epoch import EpochPlan

TIMES = ("train_seconds", "compile_seconds", "evaluate_seconds")
CALLS = 18


def calls_of_two_steps(graph, strategies, replicas=1):
    del replicas
    steps = -(-graph.num_edges // strategies.optimization.batch_size)
    return EpochPlan(steps, -(-steps // 2), 2)


@pytest.fixture(autouse=True, scope="module")
def several_calls_an_epoch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "plan_epoch", calls_of_two_steps)
        yield


class Broken(Exception):
    pass


class BreakAfter(SilentReporter):
    """Breaks a run off like a crash, after so many calls of the compiled steps."""

    def __init__(self, calls):
        self.left = calls

    def advanced(self, **_):
        self.left -= 1
        if self.left == 0:
            raise Broken


class Copies(SilentReporter):
    """Copies a run's directory after every call: what a kill at that moment would leave."""

    def __init__(self, path, copies):
        self.path, self.copies, self.calls = path, copies, 0

    def advanced(self, **_):
        self.calls += 1
        shutil.copytree(self.path, self.copies / str(self.calls))


def outcome(path):
    """Everything a run leaves that must not depend on how often it was broken off."""
    run = RunDirectory.open(path)
    summary = {name: value for name, value in run.summary().items() if name not in TIMES}
    metrics = (path / "metrics.jsonl").read_bytes()
    return summary, metrics, *(table.tobytes() for table in run.embeddings())


@pytest.fixture(scope="module")
def unbroken(small_split, small_config, tmp_path_factory):
    """A run with three calls an epoch, and beside it a copy after each of them."""
    path = tmp_path_factory.mktemp("unbroken") / "run"
    copies = Copies(path, path.parent)
    fit(small_split, small_config, out=path, reporter=copies)
    assert copies.calls == CALLS
    return path


@pytest.fixture
def broken(unbroken, tmp_path):
    """From a number of calls to a run of one's own that was killed after them.

    What follows is saved once, at its end: saving takes longer than training.
    """

    def killed(calls, checkpoint_seconds=1e9):
        path = shutil.copytree(unbroken.parent / str(calls), tmp_path / "run")
        settings = json.loads((path / "config.json").read_text())
        settings["config"]["checkpoint_seconds"] = checkpoint_seconds
        (path / "config.json").write_text(json.dumps(settings))
        return path

    return killed


# Before the first checkpoint, within an epoch, at its end, in the next, and in the last call.
@pytest.mark.parametrize("calls", [1, 2, 3, pytest.param(4, marks=pytest.mark.slow), 12, CALLS])
def test_broken_runs_resume_bit_identically(calls, unbroken, broken):
    path = broken(calls)
    assert not resume(path).already_finished
    assert outcome(path) == outcome(unbroken)


def test_a_run_may_break_again_and_again(unbroken, broken):
    path = broken(7, checkpoint_seconds=0.0)
    with pytest.raises(Broken):
        resume(path, reporter=BreakAfter(5))
    resume(path)
    assert outcome(path) == outcome(unbroken)


def test_sparse_checkpoints_resume_bit_identically(small_split, small_config, unbroken, tmp_path):
    # Metrics lines of epochs after the checkpoint are written again, not twice.
    config = replaced(small_config, {"checkpoint_seconds": 1e9})
    with pytest.raises(Broken):
        fit(small_split, config, out=tmp_path / "run", reporter=BreakAfter(7))
    assert len((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()) == 2
    resume(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(unbroken)


def test_a_torn_last_line_of_metrics_is_mended(unbroken, broken):
    path = broken(10)
    whole = (path / "metrics.jsonl").read_bytes()
    (path / "metrics.jsonl").write_bytes(whole[:-30])
    resume(path)
    assert outcome(path) == outcome(unbroken)


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip"])
def test_a_damaged_newest_checkpoint_falls_back(damage, unbroken, broken):
    path = broken(6)
    newest, before = checkpoint_folders(path / "checkpoints")
    victim = max((file for file in newest.rglob("*") if file.is_file()), key=os.path.getsize)
    content = bytearray(victim.read_bytes())
    if damage == "truncate":
        victim.write_bytes(content[: len(content) // 2])
    elif damage == "remove":
        victim.unlink()
    else:
        content[len(content) // 2] ^= 1
        victim.write_bytes(content)
    assert find_damage(newest)
    assert find_damage(before) is None
    with pytest.warns(UserWarning, match=f"{newest.name}: damaged checkpoint passed over"):
        resume(path)
    assert outcome(path) == outcome(unbroken)


def test_when_every_checkpoint_is_damaged_it_says_so(broken):
    path = broken(6)
    for folder in checkpoint_folders(path / "checkpoints"):
        (folder / "manifest.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="all 2 checkpoints are damaged"):
            resume(path)


@pytest.mark.parametrize("change", [{"chunk": 1}, {"call": None}])
def test_progress_of_another_version_is_refused(change, small_split, small_config, broken):
    """The sums are right, so nothing is damaged: another version wrote other fields."""
    path = broken(6)
    run = RunDirectory.open(path)
    template = Trainer(small_split, small_config, None, run, SilentReporter()).array_template()
    found = load_checkpoint(run.checkpoints, template)
    progress = {**found.progress, **change}
    progress = {name: value for name, value in progress.items() if value is not None}
    newest = save_checkpoint(run.checkpoints, 999, found.arrays, progress)
    expected = rf"{newest.name}/progress\.json: {next(iter(change))}: expected "
    with pytest.raises(InputError, match=expected):
        resume(path)


def test_a_finished_run_says_so_and_stays_as_it_is(unbroken, small_split):
    before = {file: file.stat().st_mtime_ns for file in unbroken.rglob("*")}
    result = resume(unbroken)
    assert result.already_finished
    assert len(result.user_embeddings) == len(small_split.users)
    assert {file: file.stat().st_mtime_ns for file in unbroken.rglob("*")} == before


def test_ctrl_c_saves_and_names_the_way_on(small_split, small_config, unbroken, tmp_path):
    class CtrlC(SilentReporter):
        def advanced(self, *, epochs, **_):
            if epochs > 1:
                os.kill(os.getpid(), signal.SIGINT)

    config = replaced(small_config, {"checkpoint_seconds": 1e9})
    previous = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"epoch 2; go on with: lightgcn-jax train --resume"):
        fit(small_split, config, out=tmp_path / "run", reporter=CtrlC())
    assert signal.getsignal(signal.SIGINT) is previous
    resume(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(unbroken)


SCRIPT = """
import sys
import time
from lightgcn_jax.runs import SilentReporter, resume, trainer
from lightgcn_jax.training.epoch import EpochPlan
def plan(graph, strategies, replicas):
    steps = -(-graph.num_edges // strategies.optimization.batch_size)
    return EpochPlan(steps, -(-steps // 2), 2)
trainer.plan_epoch = plan
class Slow(SilentReporter):
    def advanced(self, **_):
        time.sleep(0.2)
resume(sys.argv[1], reporter=Slow())
"""


@pytest.mark.slow
def test_kill_9_at_any_moment(unbroken, broken):
    path = broken(1, checkpoint_seconds=0.0)
    for wanted in (1, 4):
        process = subprocess.Popen([sys.executable, "-c", SCRIPT, str(path)])
        start, seen = time.monotonic(), set()
        while len(seen) < wanted and process.poll() is None and time.monotonic() - start < 120:
            seen |= {folder.name for folder in checkpoint_folders(path / "checkpoints")}
        process.kill()
        assert process.wait() == -signal.SIGKILL
        assert seen
    resume(path)
    assert outcome(path) == outcome(unbroken)


def test_lazy_adam_goes_on_bit_for_bit(small_split, small_config, tmp_path):
    mf = MF(small_config.model.dim)
    lazy = dataclasses.replace(small_config.optimization, lazy_adam=True, epochs=2)
    config = dataclasses.replace(small_config, model=mf, optimization=lazy)
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    fit(small_split, config, out=whole)
    with pytest.raises(Broken):
        fit(small_split, config, out=broken, reporter=BreakAfter(3))
    resume(broken)
    assert outcome(broken) == outcome(whole)


@pytest.mark.slow
def test_any_optax_transformation_trains_and_must_be_given_again(
    small_split, small_config, tmp_path
):
    path, optimizer = tmp_path / "run", partial(optax.adagrad, 0.5)
    config = replaced(small_config, {"epochs": 3})
    with pytest.raises(Broken):
        fit(small_split, config, out=path, optimizer=optimizer(), reporter=BreakAfter(5))
    with pytest.raises(InputError, match="with the same optax transformation"):
        resume(path)
    with pytest.raises(InputError, match="holds other arrays than"):
        resume(path, optimizer=optax.adam(0.1))
    result = resume(path, optimizer=optimizer())
    assert result.summary["epochs"] == 3
    assert result.history[-1]["loss"] < result.history[0]["loss"]
    with pytest.raises(InputError, match=r"refitted .* made with an optimizer of one's own"):
        refit(path)
    with pytest.raises(InputError, match=r"gone on from .* made with an optimizer of one's own"):
        continue_from(path, small_split)


def test_adam_takes_no_optimizer_in_its_place(broken):
    with pytest.raises(InputError, match="was started with Adam; resume it without an optimizer"):
        resume(broken(2), optimizer=optax.adam(0.02))


def test_one_process_trains_a_run(small_config, broken):
    path = broken(2)
    with RunDirectory.open(path).locked(), pytest.raises(InputError, match="another process"):
        resume(path)
    assert resume(path).summary["epochs"] == small_config.optimization.epochs


def test_metrics_are_json_lines_with_every_epoch(unbroken, small_config):
    records = [json.loads(line) for line in (unbroken / "metrics.jsonl").read_text().splitlines()]
    epochs = range(1, small_config.optimization.epochs + 1)
    assert [record["epoch"] for record in records] == list(epochs)
    evaluated = [record["epoch"] for record in records if "valid" in record]
    assert evaluated == [2, 4, 6]
    assert all(np.isfinite(record["loss"]) for record in records)
    assert {"loss.png", "metrics.png", "embeddings.safetensors"} <= {
        file.name for file in unbroken.iterdir()
    }


# The order of the rows, chosen when a run starts.


def test_a_resumed_run_keeps_its_order_of_the_rows(
    small_split, small_config, tmp_path, monkeypatch
):
    config = replaced(small_config, {"ordering": "co-clustering", "epochs": 2})
    path = tmp_path / "whole"
    result = fit(small_split, config, out=path, reporter=Copies(path, tmp_path))
    # Another machine's linear algebra may cluster otherwise.
    monkeypatch.setattr(node_order, "node_order", lambda *_: pytest.fail("the order was kept"))
    resume(tmp_path / "5")
    assert outcome(tmp_path / "5") == outcome(path)
    kept = RunDirectory.open(tmp_path / "5").split
    assert set(kept.users.ids) == set(small_split.users.ids)
    assert not kept.users.ids.equals(small_split.users.ids)
    assert kept.users == result.split.users
    served = Recommender.from_run(tmp_path / "5").recommend("user-3", 5)
    assert served.ids == Recommender.from_fit(result).recommend("user-3", 5).ids


def test_rows_in_another_order_are_the_same_users_and_items(small_split, small_config):
    """With an epoch as one batch, all items as negatives and the same initial vector for each id,
    nothing depends on the order of the rows but rounding."""
    plain = replaced(small_config, {"negatives": 256, "batch_size": len(small_split.train)})
    config = replaced(plain, {"negative_sampler": "all", "epochs": 4})
    ordered = in_training_order(small_split, replaced(config, {"ordering": "co-clustering"}))
    users = small_split.users.rows(ordered.users.ids)
    items = small_split.items.rows(ordered.items.ids)
    assert (np.diff(users) != 1).any()
    assert (np.diff(items) != 1).any()
    first = Trainer(small_split, config, None, None, SilentReporter()).initial_states()
    table = np.asarray(first.params.model.table)

    def trained(split, rows):
        run = Trainer(split, config, None, None, SilentReporter())
        states = run.initial_states()
        params = jax.tree.map(lambda _: jnp.asarray(table[:, rows]), states.params)
        result = run.train(TrainArrays.start(states.replace(params=params)), Progress.start(1))
        return FitResult(config, split, *result)

    one = trained(small_split, np.arange(len(users) + len(items)))
    other = trained(ordered, np.concatenate([users, len(users) + items]))
    near = {"rtol": 1e-3, "atol": 1e-5}
    np.testing.assert_allclose(other.user_embeddings, one.user_embeddings[users], **near)
    np.testing.assert_allclose(other.item_embeddings, one.item_embeddings[items], **near)
    losses = ([record["loss"] for record in result.history] for result in (one, other))
    np.testing.assert_allclose(*losses, rtol=1e-5)
    for part in ("train", "valid", "test"):
        assert other.summary[part] == pytest.approx(one.summary[part], abs=2e-3)
    asked = [f"user-{n}" for n in range(0, 120, 7)]
    for mine, theirs in zip(
        Recommender.from_fit(one).recommend(asked, 80),
        Recommender.from_fit(other).recommend(asked, 80),
        strict=True,
    ):
        # Scores nearer than rounding may change places.
        scores = dict(zip(theirs.ids, theirs.scores, strict=True))
        np.testing.assert_allclose([scores[item] for item in mine.ids], mine.scores, **near)
        apart = np.flatnonzero(-np.diff(mine.scores) > 1e-4)
        for end in apart + 1:
            assert set(mine.ids[:end]) == set(theirs.ids[:end])
