"""Runs that several real processes of this machine train together."""

import json
import shutil
import signal

import numpy as np
import pytest
import safetensors.numpy

from tests.lightgcn.processes.companions import (
    assert_first_speaks,
    companions,
    endings,
    together,
    wait_for,
    written_log,
)

pytestmark = pytest.mark.slow

CLOSE = 1e-5  # sums in another order, after about twenty steps of Adam
FEW = [
    "--dim", "8", "--layers", "2", "--batch-size", "512", "--negatives", "16", "--ks", "5", "10",
    "--evaluate-every", "2", "--learning-rate", "0.02", "--checkpoint-seconds", "0",
]  # fmt: skip
EPOCHS = ["--epochs", "4"]
ENDLESS = ["--epochs", "100000", "--patience", "0", "--evaluate-every", "100000"]


@pytest.fixture(scope="module")
def log(tmp_path_factory):
    return written_log(tmp_path_factory.mktemp("log") / "log.csv")


@pytest.fixture(scope="module")
def alone(log, tmp_path_factory):
    """The run of one process and one device."""
    folder = tmp_path_factory.mktemp("alone")
    run = folder / "run"
    from lightgcn_jax.cli.program import main

    assert main(["train", "--data", str(log), *FEW, *EPOCHS, "--out", str(run), "--quiet"]) == 0
    return run


def outcome(run):
    return (
        json.loads((run / "summary.json").read_text()),
        safetensors.numpy.load_file(run / "embeddings.safetensors"),
    )


def assert_same(run, alone):
    """The same files, figures and vectors."""
    (summary, vectors), (expected, whole) = outcome(run), outcome(alone)
    for part in ("valid", "test"):
        assert summary[part] == expected[part]
    assert summary["best_epoch"] == expected["best_epoch"]
    for name, table in whole.items():
        assert np.abs(vectors[name] - table).max() < CLOSE
    names = ({one.name for one in folder.iterdir()} for folder in (run, alone))
    assert len({frozenset(one) for one in names}) == 1


def test_two_processes_train_the_run_of_one(log, alone, tmp_path):
    run = tmp_path / "run"
    ended = together(tmp_path, 2, "--data", str(log), *FEW, *EPOCHS, "--out", str(run))
    assert_first_speaks(ended, 0, "best so far")
    assert "[Gloo]" not in ended[0].out
    assert_same(run, alone)
    assert outcome(run)[0]["processes"] == 2
    assert not [one for one in tmp_path.iterdir() if one.name.endswith(".tmp")]


def test_two_processes_train_a_prepared_folder_as_one_does(log, tmp_path):
    """Rows are dealt out for meshes, so each process reads its own rows of them."""
    from lightgcn_jax.cli.program import main

    prepared, runs = str(tmp_path / "prepared"), (tmp_path / "one", tmp_path / "two")
    assert main(["data", "prepare", str(log), "--out", prepared, "--ordering", "dealt"]) == 0
    arguments = "--data", prepared, *FEW, *EPOCHS, "--out"
    assert main(["train", *arguments, str(runs[0]), "--quiet"]) == 0
    ended = together(tmp_path, 2, *arguments, str(runs[1]))
    assert_first_speaks(ended, 0, "best so far")
    assert_same(runs[1], runs[0])


def test_four_processes_with_two_devices_each_do_too(log, alone, tmp_path):
    run = tmp_path / "run"
    arguments = "--data", str(log), *FEW, *EPOCHS, "--out", str(run), "--mesh", "data=2,model=4"
    ended = together(tmp_path, 4, *arguments, devices=2)
    assert_first_speaks(ended, 0, "best so far")
    assert_same(run, alone)
    assert outcome(run)[0]["mesh"] == "data=2,model=4"


@pytest.mark.parametrize("lost", [0, 1])
def test_a_lost_process_ends_all_and_any_number_goes_on(lost, log, tmp_path):
    run = tmp_path / "run"
    arguments = "--data", str(log), *FEW, *ENDLESS, "--out", str(run)
    with companions(tmp_path, 2, *arguments) as processes:
        wait_for(lambda: len([*(run / "checkpoints").glob("step-*")]) == 2, "no checkpoint")
        processes[lost].kill()
        ended = endings(tmp_path, processes, seconds=300)
    # Both have written: a chunk of users each.
    for checkpoint in (run / "checkpoints").glob("step-*"):
        chunks = {path.name for path in checkpoint.glob("shards/*.users/c/0/*")}
        assert chunks == {"0", "1"}
    left = ended[1 - lost]
    assert left.status not in (0, -signal.SIGKILL)
    [line] = [line for line in left.err.splitlines() if line.startswith("error")]
    assert "a process of this run was lost" in line
    assert line.endswith(f"; go on with: lightgcn-jax train --resume {run}")
    assert "0x" not in left.err
    assert "coordination" not in left.err
    # By one process, and by three, to where the run ends.
    for count in (1, 3):
        copy = tmp_path / f"copy{count}"
        shutil.copytree(run, copy)
        shortened(copy)
        if count == 1:
            from lightgcn_jax.cli.program import main

            assert main(["train", "--resume", str(copy), "--quiet"]) == 0
        else:
            ended = together(tmp_path, count, "--resume", str(copy))
            assert_first_speaks(ended, 0, "resumed from step-")
        assert (copy / "summary.json").exists()
    assert_same(tmp_path / "copy3", tmp_path / "copy1")


def shortened(run):
    """Have an endless run end two epochs after its last checkpoint."""
    [newest, *_] = sorted((run / "checkpoints").glob("step-*"), reverse=True)
    epoch = json.loads((newest / "progress.json").read_text())["epoch"]
    settings = json.loads((run / "config.json").read_text())
    settings["config"] |= {"epochs": epoch + 2}
    (run / "config.json").write_text(json.dumps(settings))


@pytest.mark.parametrize(("number", "status"), [(signal.SIGTERM, 0), (signal.SIGINT, 130)])
def test_a_signal_to_one_saves_and_ends_all(number, status, log, tmp_path):
    run = tmp_path / "run"
    arguments = "--data", str(log), *FEW, *ENDLESS, "--out", str(run), "--checkpoint-seconds", "1e6"
    with companions(tmp_path, 2, *arguments) as processes:
        # The first epochs are done, and no checkpoint is due.
        wait_for(lambda: (run / "metrics.jsonl").exists(), "no epoch")
        processes[1].send_signal(number)
        ended = endings(tmp_path, processes)
    assert_first_speaks(ended, status, f"go on with: lightgcn-jax train --resume {run}")
    assert len([*(run / "checkpoints").glob("step-*")]) == 1


def other_log(tmp_path):
    return str(written_log(tmp_path / "other.csv", likes=11))


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("settings", "got learning_rate 0.02 in process 0 and 0.01 in process 1"),
        ("data", "got train pairs"),
        ("taken", "expected a new or empty directory"),
        ("mesh", "mesh: expected a number of devices that divides the 2 there are"),
        ("idle", "mesh: expected all 2 devices of the 2 processes"),
        ("missing", "error: process 1: "),
        ("closed form", "mesh: expected a model that is trained to take it, got gfcf"),
    ],
)
def test_what_does_not_fit_ends_all_by_one_line(case, said, log, tmp_path):
    run = tmp_path / "run"
    arguments, own = ["--data", str(log), *FEW, *EPOCHS, "--out", str(run)], {}
    if case == "settings":
        own = {1: ["--learning-rate", "0.01"]}
    elif case == "data":
        own = {1: ["--data", other_log(tmp_path)]}
    elif case == "missing":
        own = {1: ["--data", str(tmp_path / "none.csv")]}
    elif case == "taken":
        run.mkdir()
        (run / "mine").touch()
    elif case == "mesh":
        arguments += ["--mesh", "model=3"]
    elif case == "idle":
        arguments += ["--mesh", "model=1"]
    else:
        arguments = ["--data", str(log), "--model", "gfcf", "--out", str(run)]
    ended = together(tmp_path, 2, *arguments, own=own)
    assert_first_speaks(ended, 2, said)
    assert [one.name for one in run.iterdir()] == ["mine"] if case == "taken" else not run.exists()


def test_a_checkpoint_of_another_model_ends_all_by_one_line(alone, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(alone, run)
    for name in ("summary.json", "sums.json"):
        (run / name).unlink()
    settings = json.loads((run / "config.json").read_text())
    settings["config"]["dim"] = 4
    (run / "config.json").write_text(json.dumps(settings))
    ended = together(tmp_path, 2, "--resume", str(run))
    assert_first_speaks(ended, 2, "the checkpoint holds other arrays than this run's settings")
