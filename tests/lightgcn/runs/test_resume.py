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

import numpy as np
import optax
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.runs import Interrupted, RunDirectory, SilentReporter, fit, node_order, resume
from lightgcn_jax.runs import trainer as loop
from lightgcn_jax.runs.checkpoint import checkpoint_folders, find_damage
from lightgcn_jax.training.epoch import ChunkPlan

TIMES = ("train_seconds", "compile_seconds", "evaluate_seconds")


def chunks_of_two_steps(num_edges, _num_nodes, config, _lanes):
    steps = -(-num_edges // config.batch_size)
    return ChunkPlan(steps, -(-steps // 2), 2)


@pytest.fixture(autouse=True, scope="module")
def several_chunks_an_epoch():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(loop, "plan_chunks", chunks_of_two_steps)
        yield


class Broken(Exception):
    pass


class BreakAfter(SilentReporter):
    """Breaks a run off like a crash, after so many chunks."""

    def __init__(self, chunks):
        self.left = chunks

    def advanced(self, **_):
        self.left -= 1
        if self.left == 0:
            raise Broken


def outcome(path):
    """Everything a run leaves that must not depend on how often it was broken off."""
    run = RunDirectory.open(path)
    summary = {name: value for name, value in run.summary().items() if name not in TIMES}
    metrics = (path / "metrics.jsonl").read_bytes()
    return summary, metrics, *(table.tobytes() for table in run.embeddings())


@pytest.fixture(scope="module")
def unbroken(small_split, small_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("unbroken") / "run"
    fit(small_split, small_config, out=path)
    return path


# Within an epoch, twice in a row, before the first checkpoint, and at the end of an epoch.
@pytest.mark.parametrize(
    "breaks",
    [[2], [7, 5], *(pytest.param(chunks, marks=pytest.mark.slow) for chunks in ([1], [4]))],
)
def test_broken_runs_resume_bit_identically(breaks, small_split, small_config, unbroken, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(Broken):
        fit(small_split, small_config, out=path, reporter=BreakAfter(breaks[0]))
    for chunks in breaks[1:]:
        with pytest.raises(Broken):
            resume(path, reporter=BreakAfter(chunks))
    assert not resume(path).already_finished
    assert outcome(path) == outcome(unbroken)


@pytest.mark.slow
def test_sparse_checkpoints_resume_bit_identically(small_split, small_config, tmp_path):
    # Metrics lines of epochs after the checkpoint are written again, not twice.
    config = dataclasses.replace(small_config, checkpoint_seconds=1e9)
    for name, chunks in (("whole", 10**9), ("broken", 7)):
        try:
            fit(small_split, config, out=tmp_path / name, reporter=BreakAfter(chunks))
        except Broken:
            resume(tmp_path / name)
    assert outcome(tmp_path / "whole") == outcome(tmp_path / "broken")


@pytest.mark.parametrize("damage", ["truncate", "remove", "flip"])
def test_a_damaged_newest_checkpoint_falls_back(
    damage, small_split, small_config, unbroken, tmp_path
):
    path = tmp_path / "run"
    with pytest.raises(Broken):
        fit(small_split, small_config, out=path, reporter=BreakAfter(6))
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


def test_when_every_checkpoint_is_damaged_it_says_so(small_split, small_config, tmp_path):
    with pytest.raises(Broken):
        fit(small_split, small_config, out=tmp_path / "run", reporter=BreakAfter(6))
    for folder in checkpoint_folders(tmp_path / "run" / "checkpoints"):
        (folder / "manifest.json").unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(InputError, match="all 2 checkpoints are damaged"):
            resume(tmp_path / "run")


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

    config = dataclasses.replace(small_config, checkpoint_seconds=1e9)
    previous = signal.getsignal(signal.SIGINT)
    with pytest.raises(Interrupted, match=r"epoch 2; go on with: lightgcn-jax train --resume"):
        fit(small_split, config, out=tmp_path / "run", reporter=CtrlC())
    assert signal.getsignal(signal.SIGINT) is previous
    resume(tmp_path / "run")
    assert outcome(tmp_path / "run") == outcome(unbroken)


SCRIPT = """
import sys
import time
from lightgcn_jax.runs import SilentReporter, resume
from lightgcn_jax.runs import trainer as loop
from lightgcn_jax.training.epoch import ChunkPlan
def plan(edges, nodes, config, lanes):
    steps = -(-edges // config.batch_size)
    return ChunkPlan(steps, -(-steps // 2), 2)
loop.plan_chunks = plan
class Slow(SilentReporter):
    def advanced(self, **_):
        time.sleep(0.2)
resume(sys.argv[1], reporter=Slow())
"""


@pytest.mark.slow
def test_kill_9_at_any_moment(small_split, small_config, unbroken, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(Broken):
        fit(small_split, small_config, out=path, reporter=BreakAfter(1))
    shutil.rmtree(path / "checkpoints", ignore_errors=True)
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


@pytest.mark.slow
def test_a_custom_optimizer_must_be_given_again(small_split, small_config, tmp_path):
    config = dataclasses.replace(small_config, epochs=2)
    with pytest.raises(Broken):
        fit(
            small_split, config, out=tmp_path / "run", optimizer=optax.sgd(0.1),
            reporter=BreakAfter(2),
        )  # fmt: skip
    with pytest.raises(InputError, match="with the same optax transformation"):
        resume(tmp_path / "run")
    with pytest.raises(InputError, match="holds other arrays than"):
        resume(tmp_path / "run", optimizer=optax.adam(0.1))
    assert resume(tmp_path / "run", optimizer=optax.sgd(0.1)).summary["epochs"] == 2


def test_one_process_trains_a_run(small_split, small_config, tmp_path):
    path = tmp_path / "run"
    with pytest.raises(Broken):
        fit(small_split, small_config, out=path, reporter=BreakAfter(2))
    with RunDirectory.open(path).locked(), pytest.raises(InputError, match="another process"):
        resume(path)
    assert resume(path).summary["epochs"] == small_config.epochs


def test_metrics_are_json_lines_with_every_epoch(unbroken, small_config):
    records = [json.loads(line) for line in (unbroken / "metrics.jsonl").read_text().splitlines()]
    assert [record["epoch"] for record in records] == list(range(1, small_config.epochs + 1))
    evaluated = [record["epoch"] for record in records if "valid" in record]
    assert evaluated == [2, 4, 6]
    assert all(np.isfinite(record["loss"]) for record in records)
    assert {"loss.png", "metrics.png", "embeddings.safetensors"} <= {
        file.name for file in unbroken.iterdir()
    }


@pytest.mark.slow
def test_a_resumed_run_keeps_its_order_of_the_nodes(
    small_split, small_config, tmp_path, monkeypatch
):
    config = dataclasses.replace(small_config, ordering="co-clustering")
    fit(small_split, config, out=tmp_path / "whole")
    with pytest.raises(Broken):
        fit(small_split, config, out=tmp_path / "broken", reporter=BreakAfter(5))
    # Another machine's linear algebra may cluster otherwise.
    monkeypatch.setattr(node_order, "node_order", lambda *_: pytest.fail("the order was kept"))
    resume(tmp_path / "broken")
    assert outcome(tmp_path / "broken") == outcome(tmp_path / "whole")
    kept = RunDirectory.open(tmp_path / "broken").split
    assert set(kept.users.ids) == set(small_split.users.ids)
    assert not kept.users.ids.equals(small_split.users.ids)


def test_a_run_from_before_orderings_has_none(unbroken, tmp_path):
    path = shutil.copytree(unbroken, tmp_path / "old")
    settings = json.loads((path / "config.json").read_text())
    del settings["config"]["ordering"]
    (path / "config.json").write_text(json.dumps(settings))
    assert RunDirectory.open(path).config.ordering == "none"
