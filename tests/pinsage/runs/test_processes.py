"""Runs of PinSAGE that several real processes of this machine train together."""

import functools
import json
import signal

import numpy as np
import pytest
import safetensors.numpy

from pinsage_jax.cli.program import main
from tests.lightgcn.processes import companions as processes_of
from tests.lightgcn.processes.companions import assert_first_speaks, endings, wait_for

pytestmark = pytest.mark.slow

CLOSE = 1e-5  # sums in another order, after about twenty steps of Adam
FEW = [
    "--dim", "8", "--layers", "1", "--neighbors", "5", "--walks", "10", "--walk-length", "5",
    "--fan", "2", "--structure", "8", "--folds", "2", "--batch-size", "32", "--negatives", "16",
    "--ks", "5", "--steps-per-epoch", "6", "--patience", "0",
]  # fmt: skip
together = functools.partial(processes_of.together, program="pinsage_jax")
companions = functools.partial(processes_of.companions, program="pinsage_jax")


def written_boards(path, seed=0):
    rng = np.random.default_rng(seed)
    # Every pin lies on a board, so that counts do not tell two logs apart.
    held = [{board, 60 + board, *rng.integers(0, 120, 8).tolist()} for board in range(60)]
    pairs = [f"b{board},p{pin}" for board, pins in enumerate(held) for pin in sorted(pins)]
    path.write_text("\n".join(["board,pin", *pairs]) + "\n")
    return ["--data", str(path), "--user-column", "board", "--item-column", "pin"]


@pytest.fixture(scope="module")
def boards(tmp_path_factory):
    return written_boards(tmp_path_factory.mktemp("boards") / "boards.csv")


@pytest.fixture(scope="module")
def alone(boards, tmp_path_factory):
    """The run of one process and one device."""
    run = tmp_path_factory.mktemp("alone") / "run"
    assert main(["train", *boards, *FEW, "--epochs", "3", "--out", str(run), "--quiet"]) == 0
    return run


def assert_same(run, alone):
    """The same figures, parameters and vectors, in the same files."""
    found, expected = (json.loads((one / "summary.json").read_text()) for one in (run, alone))
    assert found["best_epoch"] == expected["best_epoch"]
    for part in ("valid", "test"):
        assert found[part] == pytest.approx(expected[part], abs=1e-6)
    params = [safetensors.numpy.load_file(one / "model.safetensors") for one in (run, alone)]
    assert all(np.abs(params[0][name] - table).max() < CLOSE for name, table in params[1].items())
    for layer in sorted((alone / "vectors").glob("*.npy")):
        vectors = np.load(run / "vectors" / layer.name) - np.load(layer)
        assert np.abs(vectors).max() < CLOSE
    names = ({one.name for one in folder.iterdir()} for folder in (run, alone))
    assert len({frozenset(one) for one in names}) == 1


@pytest.mark.parametrize("mesh", ["data=2", "model=2"])
def test_two_processes_train_the_run_of_one(mesh, boards, alone, tmp_path):
    run = tmp_path / "run"
    arguments = *boards, *FEW, "--epochs", "3", "--mesh", mesh
    ended = together(tmp_path, 2, *arguments, "--out", str(run))
    assert_first_speaks(ended, 0, "2 devices, each with its rows of a batch")
    assert_same(run, alone)
    assert json.loads((run / "summary.json").read_text())["processes"] == 2
    assert not [one for one in tmp_path.iterdir() if one.name.endswith(".tmp")]


def test_two_processes_share_the_graph_out_that_neither_holds(boards, alone, tmp_path):
    """The structure of boards at random is ill-conditioned: its numbers are close, not the same."""
    run = tmp_path / "run"
    arguments = *boards, *FEW, "--epochs", "3", "--curriculum", "all", "--out", str(run)
    ended = together(tmp_path, 2, *arguments, program="tests.pinsage.runs.on_small_devices")
    assert_first_speaks(ended, 0, "structure and PageRank: the graph's rows lie on 2 devices")
    contexts, others = (
        safetensors.numpy.load_file(one / "structure.safetensors")["contexts"]
        for one in (alone, run)
    )
    assert 0 < np.abs(contexts - others).max() < 1e-3 * np.abs(contexts).max()


def test_a_lost_process_ends_the_other_and_one_goes_on(boards, tmp_path):
    run = tmp_path / "run"
    arguments = *boards, *FEW, "--epochs", "100000", "--out", str(run)
    with companions(tmp_path, 2, *arguments) as processes:
        wait_for(lambda: len([*(run / "checkpoints").glob("step-*")]) == 2, "no checkpoint")
        processes[1].kill()
        ended = endings(tmp_path, processes, seconds=300)
    assert ended[0].status not in (0, -signal.SIGKILL)
    [line] = [line for line in ended[0].err.splitlines() if line.startswith("error")]
    assert "a process of this run was lost" in line
    assert line.endswith(f"; go on with: pinsage-jax train --resume {run}")
    settings = json.loads((run / "config.json").read_text())
    epochs = len((run / "metrics.jsonl").read_text().splitlines())
    settings["config"] |= {"epochs": epochs + 1}
    (run / "config.json").write_text(json.dumps(settings))
    assert main(["train", "--resume", str(run), "--quiet"]) == 0
    assert (run / "summary.json").exists()


def test_a_signal_to_one_saves_and_ends_both(boards, tmp_path):
    run = tmp_path / "run"
    arguments = *boards, *FEW, "--epochs", "100000", "--out", str(run)
    with companions(tmp_path, 2, *arguments) as processes:
        wait_for(lambda: (run / "checkpoints").exists(), "no epoch")
        processes[1].send_signal(signal.SIGTERM)
        ended = endings(tmp_path, processes)
    assert_first_speaks(ended, 0, f"go on with: pinsage-jax train --resume {run}")
    assert [*(run / "checkpoints").glob("step-*")]


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("settings", "got learning_rate 0.003 in process 0 and 0.01 in process 1"),
        ("data", "memberships that train"),
        ("taken", "expected a new or empty directory"),
        ("idle", "mesh: expected all 2 devices of the 2 processes"),
        ("baseline", "mesh: expected a model that is trained to take it, got popularity"),
    ],
)
def test_what_does_not_fit_ends_both_by_one_line(case, said, boards, tmp_path):
    run = tmp_path / "run"
    arguments, own = [*boards, *FEW, "--epochs", "1", "--out", str(run)], {}
    if case == "settings":
        own = {1: ["--learning-rate", "0.01"]}
    elif case == "data":
        own = {1: written_boards(tmp_path / "other.csv", seed=1)}
    elif case == "taken":
        run.mkdir()
        (run / "mine").touch()
    elif case == "idle":
        arguments += ["--mesh", "model=1"]
    else:
        arguments = [*boards, "--model", "popularity"]
    ended = together(tmp_path, 2, *arguments, own=own)
    assert_first_speaks(ended, 2, said)
    assert [one.name for one in run.iterdir()] == ["mine"] if case == "taken" else not run.exists()
