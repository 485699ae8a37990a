"""Altered bytes of a finished run: whoever reads the file names it, and so does verify."""

import json
import os
import shutil

import pytest

from lightgcn_jax import verify
from lightgcn_jax.cli import main
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import GfCf
from lightgcn_jax.runs import RunDirectory, compare_runs, evaluate_run, fit, refit, resume
from lightgcn_jax.runs.checkpoint import checkpoint_folders
from lightgcn_jax.runs.written import write_result
from lightgcn_jax.serving import Recommender
from lightgcn_jax.settings import ClosedFormConfig
from lightgcn_jax.sums import sums_of
from tests.unlisted import without_sums

CLOSED = ClosedFormConfig(model=GfCf(singular_vectors=8), ks=(5,))


@pytest.fixture(scope="module")
def trained(small_split, small_config, tmp_path_factory):
    path = tmp_path_factory.mktemp("verified") / "trained"
    fit(small_split, small_config, out=path)
    return path


@pytest.fixture(scope="module")
def closed(small_split, tmp_path_factory):
    path = tmp_path_factory.mktemp("verified") / "closed"
    fit(small_split, CLOSED, out=path)
    return path


def flipped(path, at=-2, bit=1):
    """One bit of a file that is another."""
    content = bytearray(path.read_bytes())
    content[at] ^= bit
    path.write_bytes(content)


def read_by_all(run, other):
    """Everything that reads a finished run."""
    return (
        lambda: Recommender.from_run(run),
        lambda: evaluate_run(run, (5,)),
        lambda: compare_runs([run, other], k=5),
        lambda: compare_runs([other, run], k=5),
    )


def test_a_run_lists_all_that_it_holds(trained, closed):
    listed = json.loads((trained / "sums.json").read_text())["sha256"]
    names = ["config.json", "embeddings.safetensors", "items.parquet", "metrics.jsonl"]
    names += ["pairs.safetensors", "parameters.safetensors", "summary.json", "users.parquet"]
    assert list(listed) == names
    assert listed == sums_of(trained)
    found = verify(trained)
    assert found.is_whole
    checkpoints = [name for name in found.files if name.startswith("checkpoints/")]
    assert set(found.files) == {*names, *checkpoints}
    assert any(name.endswith("progress.json") for name in checkpoints)
    assert "model.safetensors" in verify(closed).files


@pytest.mark.parametrize("name", [
    "config.json", "embeddings.safetensors", "items.parquet", "users.parquet", "pairs.safetensors",
    "summary.json",
])  # fmt: skip
def test_a_bit_of_a_trained_run_is_missed_by_nobody(name, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    flipped(run / name)
    reads = [*read_by_all(run, trained), lambda: resume(run)]
    reads += [lambda: refit(run)] if name != "embeddings.safetensors" else []
    for read in reads:
        with pytest.raises(InputError, match=f"{name}: has other bytes than were written: put"):
            read()
    assert verify(run).damaged == {name: "changed"}


def test_a_bit_of_a_closed_form_is_missed_by_nobody(closed, trained, tmp_path):
    run = shutil.copytree(closed, tmp_path / "run")
    flipped(run / "model.safetensors")
    for read in (*read_by_all(run, trained), lambda: resume(run)):
        with pytest.raises(InputError, match=r"model\.safetensors: has other bytes"):
            read()


def test_a_bit_of_the_curves_is_missed_by_those_who_draw_them_alone(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    flipped(run / "metrics.jsonl")
    Recommender.from_run(run)
    with pytest.raises(InputError, match=r"metrics\.jsonl: has other bytes"):
        RunDirectory.open(run).history()


@pytest.mark.parametrize("name", ["embeddings.safetensors", "users.parquet", "config.json"])
def test_a_missing_file_is_named(name, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / name).unlink()
    for read in read_by_all(run, trained):
        with pytest.raises(InputError, match=name.replace(".", r"\.")):
            read()
    if name != "config.json":
        assert verify(run).damaged == {name: "missing"}


def test_a_run_without_its_summary_is_not_finished(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    (run / "summary.json").unlink()
    with pytest.raises(InputError, match=r"it holds no summary\.json; resume it first"):
        evaluate_run(run, (5,))
    assert verify(run).damaged == {"summary.json": "missing"}
    assert resume(run).summary["test"] == RunDirectory.open(trained).summary()["test"]
    assert verify(run).is_whole


def test_a_file_that_the_run_did_not_have_is_not_taken_for_its_own(closed, trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    shutil.copy(closed / "model.safetensors", run)
    found = verify(run)
    assert found.files["model.safetensors"] == "not listed"
    assert found.is_whole
    with pytest.raises(InputError, match=r"model\.safetensors: is not listed in sums\.json"):
        RunDirectory.open(run).model(["vectors"])


def test_a_damaged_checkpoint_is_found(trained, tmp_path):
    run = shutil.copytree(trained, tmp_path / "run")
    newest, older = checkpoint_folders(run / "checkpoints")
    flipped(newest / "progress.json")
    (older / "manifest.json").unlink()
    newest, older = (f"checkpoints/{one.name}" for one in (newest, older))
    damaged = {f"{newest}/progress.json": "changed", f"{older}/manifest.json": "unreadable"}
    assert verify(run).damaged == damaged


def test_a_run_of_an_earlier_version_opens(trained, tmp_path, capsys):
    run = without_sums(trained, tmp_path / "run")
    assert evaluate_run(run, (5,)) == evaluate_run(trained, (5,))
    assert verify(run).without_sums == (run,)
    assert main(["verify", str(run)]) == 2
    assert f"error: {run}: it has no sums.json" in capsys.readouterr().err


def test_a_run_that_was_kept_in_memory_has_sums_too(small_split, tmp_path):
    path = write_result(fit(small_split, CLOSED), tmp_path / "run", optimizer="none")
    assert verify(path).is_whole
    flipped(path / "model.safetensors")
    with pytest.raises(InputError, match="other bytes"):
        Recommender.from_run(path)


def test_the_sums_of_a_finished_run_are_the_same_bytes_whoever_asks(trained):
    before = (trained / "sums.json").read_bytes(), os.stat(trained / "sums.json").st_mtime_ns
    resume(trained)
    evaluate_run(trained, (5,))
    after = (trained / "sums.json").read_bytes(), os.stat(trained / "sums.json").st_mtime_ns
    assert after == before


def test_the_command_tells_what_is_damaged(trained, tmp_path, capsys):
    assert main(["verify", str(trained)]) == 0
    out = capsys.readouterr().out
    assert "embeddings.safetensors" in out
    assert "changed" not in out
    run = shutil.copytree(trained, tmp_path / "run")
    flipped(run / "users.parquet")
    assert main(["verify", str(run), "--json"]) == 2
    out, err = capsys.readouterr()
    assert json.loads(out)["files"]["users.parquet"] == "changed"
    assert json.loads(out)["without_sums"] == []
    assert "1 of" in err
    assert "users.parquet; put them back from a copy, or make them anew" in err
    assert main(["verify", str(tmp_path)]) == 2
    assert "expected the directory of a run, a sweep or an index" in capsys.readouterr().err
    assert main(["verify", str(tmp_path / "nowhere")]) == 2
    assert capsys.readouterr().err.endswith("there is none\n")
