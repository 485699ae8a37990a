"""`data prepare`, `train --data` of what it made, and tables in parts."""

import json
import subprocess
import sys

import numpy as np
import polars as pl
import pytest

from lightgcn_jax.cli import asking
from lightgcn_jax.cli.meter import ConsoleMeter
from lightgcn_jax.data import positives, ratio_split, read_interactions
from lightgcn_jax.prepared import open_prepared
from lightgcn_jax.prepared.preparation import bytes_of
from lightgcn_jax.runs import RunDirectory, fit
from lightgcn_jax.settings import from_flat
from lightgcn_jax.sums import NAME, verified
from tests.lightgcn.cli.test_cli import call, error_of
from tests.stopped import contents


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A log in two files, and the folder that was prepared of it."""
    folder, rng = tmp_path_factory.mktemp("prepare"), np.random.default_rng(0)
    pairs = rng.integers(40, size=(600, 2))
    frame = pl.DataFrame({"user": [f"u{one}" for one in pairs[:, 0]], "item": pairs[:, 1]})
    (folder / "log").mkdir()
    frame.head(350).write_parquet(folder / "log" / "part-0.parquet")
    frame.tail(250).write_parquet(folder / "log" / "part-1.parquet")
    found = call("data", "prepare", folder / "log", "--out", folder / "made", "--split-seed", 1)
    assert found.status == 0
    assert "600" in found.out
    assert "train --data takes" in found.out
    assert "sorting: 600 rows in" in found.err
    return folder


def test_a_run_of_the_folder_is_the_run_of_the_files(place, tmp_path):
    """Bit for bit: rows, ids, every embedding and every figure."""
    config = from_flat({"dim": 4, "layers": 1, "epochs": 1, "batch_size": 64, "ks": (5,)})
    data = positives(read_interactions(place / "log"))
    expected = fit(ratio_split(data, seed=1), config)
    found = fit(open_prepared(place / "made").split, config)
    assert found.split.users == expected.split.users
    assert found.split.items == expected.split.items
    np.testing.assert_array_equal(found.user_embeddings, expected.user_embeddings)
    np.testing.assert_array_equal(found.item_embeddings, expected.item_embeddings)
    assert found.summary["test"] == expected.summary["test"]
    # Where the protocol trains on other pairs, rows are put in order anew.
    flags = ("--model", "itemcf", "--ks", 5, "--protocol", "fixed", "--quiet", "--out")
    of_files = (*flags, tmp_path / "b", "--split-seed", 1)
    assert call("train", "--data", place / "made", *flags, tmp_path / "a").status == 0
    assert call("train", "--data", place / "log", *of_files).status == 0
    one, other = (RunDirectory.open(tmp_path / name) for name in ("a", "b"))
    assert one.summary()["test"] == other.summary()["test"]
    assert one.split.users == other.split.users
    assert one.data["prepared"]["split_seed"] == 1


def test_train_says_what_was_prepared_and_takes_no_flag_of_files(place, tmp_path):
    flags = ("train", "--data", place / "made", "--model", "popular", "--ks", 5)
    err = call(*flags, "--out", tmp_path / "run").err
    assert "Data made, prepared of 600 rows" in err
    assert "one interaction per user-item pair" in err
    for flag in (("--split", "ratio"), ("--user-column", "user"), ("--min-rating", 3)):
        assert "expected without a prepared folder" in error_of(*flags, *flag)
    assert "got a prepared folder" in error_of("data", "describe", place / "made")
    assert call("verify", place / "made").status == 0
    (place / "made" / "extra").touch()
    assert call("verify", place / "made").status == 0
    (place / "made" / "extra").unlink()


def test_what_is_half_made_is_said(place, tmp_path):
    out = tmp_path / "made"
    flags = ("data", "prepare", place / "log", "--out", out)
    assert "gave no split" in error_of(*flags, "--split", "given")
    assert not out.exists()
    out.mkdir()
    (out / ".state.json").write_text("{}")
    assert "not finished" in error_of("train", "--data", out)
    assert "a preparation of other version was broken off here" in error_of(*flags)
    assert call(*flags[:4], tmp_path / "other", "--quiet").out.strip() == str(tmp_path / "other")


@pytest.mark.parametrize(
    ("text", "count"), [("8GB", 8e9), ("512 mb", 512e6), ("1e9", 1e9), ("1.5G", 1.5e9)]
)
def test_amounts_of_memory(text, count):
    assert bytes_of(text) == count
    for bad in ("much", "8 GiBs", "", "1..2MB"):
        flags = ("data", "prepare", "x", "--out", "y", "--memory", bad)
        assert "memory: expected an amount" in error_of(*flags)


@pytest.fixture(scope="module")
def run(place):
    flags = ("--data", place / "made", "--model", "itemcf", "--ks", 5, "--quiet")
    assert call("train", *flags, "--out", place / "run").status == 0
    return place / "run"


def test_a_table_in_parts_is_the_table(run, tmp_path, monkeypatch):
    monkeypatch.setattr(asking, "_USERS_OF_A_PART", 16)
    flags = ("recommend", run, "--all-users", "--k", 3)
    assert call(*flags, "--out", tmp_path / "r.parquet").status == 0
    out = tmp_path / "parts"
    found = call(*flags, "--out", out, "--partitioned")
    assert found.status == 0
    assert "recommendations to 40 users" in found.err
    assert len([*out.glob("part-*.parquet")]) == 3
    expected = pl.read_parquet(tmp_path / "r.parquet")
    assert pl.read_parquet(out / "part-*.parquet").equals(expected)
    assert set(verified(out).values()) == {"ok"}
    manifest = json.loads((out / "parts.json").read_text())
    assert sum(manifest["rows"]) == len(expected)
    said = error_of(*flags, "--out", out, "--partitioned")
    assert "already holds something; choose another name" in said
    # As a kill in the middle leaves it, and a disk that damages a part.
    whole = contents(out)
    state = {name: one for name, one in manifest.items() if name != "rows"}
    (out / ".state.json").write_text(json.dumps(state))
    for name in ("parts.json", NAME, "part-00002.parquet"):
        (out / name).unlink()
    (out / "part-00001.parquet").write_bytes(b"PAR1 no more PAR1")
    other = ("recommend", run, "--all-users", "--k", 4, "--out", out, "--partitioned")
    assert "a table of other k was broken off here" in error_of(*other)
    assert call(*flags, "--out", out, "--partitioned").status == 0
    assert contents(out) == whole


def test_parts_need_all_users_and_a_folder(run):
    assert "--partitioned: expected --all-users" in error_of(
        "recommend", run, "--user", "u1", "--partitioned"
    )


def test_the_meter_tells_the_rate_of_each_stage(capsys):
    moments = iter([0.0, 2.0, 2.0])
    meter = ConsoleMeter(clock=lambda: next(moments))
    meter.started("sorting", 10, "rows")
    meter.advanced(10)
    meter.stopped()
    meter.stopped()
    assert capsys.readouterr().err == "sorting: 10 rows in 2.0 s, 5 rows/s\n"


_LIMITED = """
import resource, sys
from pathlib import Path
from lightgcn_jax.prepared import Preparation, prepare
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
prepare(Preparation((Path(sys.argv[1]),), memory=int(sys.argv[3])), sys.argv[2])
print(before, resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


@pytest.mark.slow
def test_memory_is_bounded_whatever_the_length_of_the_log(tmp_path):
    """Twenty million rows, of which a sort in memory alone would take 480 MB beside the rows."""
    from benchmarks.workloads.long_log import write_log

    allowed = 256_000_000
    write_log(tmp_path / "log", 20_000_000)
    command = [sys.executable, "-c", _LIMITED, tmp_path / "log", tmp_path / "made", str(allowed)]
    ended = subprocess.run(command, capture_output=True, text=True, check=True)
    before, peak = (1024 * int(one) for one in ended.stdout.split())
    assert peak - before <= allowed
    assert (tmp_path / "made" / "prepared.json").is_file()
