"""Help, wrong arguments and files of flags, before a command is imported."""

import contextlib
import io
import os
import subprocess
import sys
import tomllib

import jax
import pytest

from lightgcn_jax.cli import listing as lightgcn_listing
from lightgcn_jax.cli import main
from lightgcn_jax.cli.device import choose_device
from lightgcn_jax.cli.front import received
from lightgcn_jax.cli.program import LIGHTGCN, _parsed
from lightgcn_jax.errors import InputError
from pinsage_jax.cli import listing as pinsage_listing
from pinsage_jax.cli.program import PINSAGE

PROGRAMS = [(LIGHTGCN, lightgcn_listing), (PINSAGE, pinsage_listing)]


@pytest.fixture(scope="module", params=PROGRAMS, ids=["lightgcn", "pinsage"])
def listed(request):
    program, listing = request.param
    return program, lightgcn_listing.listed(program, listing.heading_of, listing.EXAMPLES)


def test_what_is_printed_of_flags_is_what_the_commands_have(listed):
    """`python -m lightgcn_jax.cli.listing` and that of pinsage_jax write the files anew."""
    program, found = listed
    text = lightgcn_listing.path_of(program).read_text(encoding="utf-8")
    assert text == lightgcn_listing.text_of(found)


def test_examples_are_command_lines_that_are_taken(listed, monkeypatch, tmp_path):
    program, found = listed
    monkeypatch.chdir(tmp_path)
    for name in ("run", "mine"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.toml").write_text("dim = 16\n")
    for command, about in found.items():
        assert len(about.get("examples", "12")) == 2, command
        for example in about.get("examples", ()):
            call = received(program, example.split())
            assert call.command == command
            assert _parsed(program, call.arguments)


def test_every_flag_of_train_stands_below_a_heading_of_its_own(listed):
    _, found = listed
    headings = {tuple(one["names"]): one["heading"] for one in found["train"]["flags"]}
    wanted = ["data", "split", "model", "loss", "negatives", "optimiser", "protocol", "run"]
    assert list(dict.fromkeys(headings.values())) == wanted
    assert headings[("--neighbors", "--neighbours")] == "model"
    assert headings[("--negatives",)] == headings[("--hard-pool",)] == "negatives"


WITHOUT_JAX = """
import contextlib, io, sys
from {package}.cli import main
from {package}.cli.program import {program} as program
calls = [["--help"], ["trian"], *([name, *more] for name in program.commands
         for more in (["--help"], ["--bogus"]))]
calls += [["train", "--dim", "x"], ["data", "list", "--help"], ["train", "--config", "nowhere"]]
for words in calls:
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(words)
    assert status == (0 if words[-1] == "--help" else 2) or words[0] == "data", words
    assert out.getvalue().startswith("usage: ") if status == 0 else err.getvalue().count("\\n") == 1
heavy = {{"jax", "flax", "optax", "polars", "scipy", "numpy"}} & sys.modules.keys()
assert not heavy, heavy
"""


@pytest.mark.parametrize(
    ("package", "name"), [("lightgcn_jax", "LIGHTGCN"), ("pinsage_jax", "PINSAGE")]
)
def test_help_and_wrong_arguments_import_nothing_heavy(package, name):
    program = WITHOUT_JAX.format(package=package, program=name)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def refused(*words):
    with pytest.raises(InputError) as caught:
        received(LIGHTGCN, [*map(str, words)])
    return str(caught.value)


def test_flags_of_a_file_stand_below_those_of_the_command_line(tmp_path):
    (tmp_path / "log.csv").touch()
    path = tmp_path / "flags.toml"
    path.write_text(
        'data = "log.csv"\ndim = 16\nbatch_size = 64\nlearning-rate = 0.1\nks = [5, 10]\n'
        "reject-seen = false\nrank-train = true\nuser-column = 2\nneighbours = 9\n"
    )
    call = received(LIGHTGCN, ["train", "--config", str(path), "--dim=8", "--dataset", "gowalla"])
    command = _parsed(LIGHTGCN, call.arguments)
    assert command.settings == {
        "dim": 8,
        "batch_size": 64,
        "learning_rate": 0.1,
        "ks": (5, 10),
        "reject_seen": False,
        "rank_train": True,
        "neighbours": 9,
    }
    assert (command.source.data, command.source.dataset) == (None, "gowalla")
    assert command.source.file_format.user_column == "2"
    assert call.asked["ks"] == [5, 10]
    assert call.asked["reject-seen"] is False


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("dims = 3", "flags.toml: dims: train has no such flag; did you mean dim?"),
        ('dim = "x"', "flags.toml: --dim: expected a whole number, got 'x'"),
        ("dim = true", "flags.toml: dim: expected INT, got True"),
        ("download = 3", "flags.toml: download: expected true or false, got 3"),
        ('loss = "brp"', "got 'brp'; did you mean bpr?"),
        ("[model]\ndim = 3", "flags.toml: model: expected {mf,"),
        ("dim = ", "flags.toml: expected TOML, got"),
    ],
)
def test_what_is_wrong_in_a_file_of_flags_is_named(text, message, tmp_path):
    (tmp_path / "flags.toml").write_text(text)
    assert message in refused("train", "--config", tmp_path / "flags.toml")


def call(*words):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main([*map(str, words)])
    assert status == 0, err.getvalue()


def test_a_run_keeps_its_flags_and_is_repeated_by_them(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    rows = "".join(f"u{n % 9},i{n * n % 7}\n" for n in range(60))
    (tmp_path / "log.csv").write_text("user,item\n" + rows)
    flags = ("--data", "log.csv", "--model", "popular", "--ks", 3, "--split", "leave-k-out")
    call("train", *flags, "--out", "run", "--quiet")
    kept = tomllib.loads((tmp_path / "run" / "run.toml").read_text())
    assert kept == {
        "data": str(tmp_path / "log.csv"),
        "model": "popular",
        "ks": [3],
        "split": "leave-k-out",
    }
    call("train", "--config", "run/run.toml", "--out", "other", "--quiet")
    for name in ("run.toml", "pairs.safetensors", "metrics.jsonl"):
        ours, theirs = (tmp_path / run / name for run in ("run", "other"))
        assert ours.read_bytes() == theirs.read_bytes()


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("tpu", "--device tpu: JAX finds no tpu here, it has: cpu"),
        ("99", "--device 99: expected one of 0 \\("),
        ("quantum", "--device: expected cpu, gpu, tpu or the number of a device, got 'quantum'"),
    ],
)
def test_a_device_that_is_not_here_is_named(wanted, message):
    with pytest.raises(InputError, match=message):
        choose_device(wanted)


def test_a_device_by_its_number_takes_what_is_made_and_what_is_restored():
    program = """
from lightgcn_jax.cli.device import choose_device
choose_device("1")
from lightgcn_jax.arrays import default_device
assert default_device().id == 1
"""
    two = os.environ | {"XLA_FLAGS": "--xla_force_host_platform_device_count=2"}
    subprocess.run([sys.executable, "-c", program], check=True, env=two)


def test_a_device_is_chosen():
    before = jax.config.jax_platforms, jax.config.jax_default_device
    try:
        choose_device("cpu")
        choose_device("0")
        assert jax.config.jax_default_device == jax.devices()[0]
    finally:
        jax.config.update("jax_platforms", before[0])
        jax.config.update("jax_default_device", before[1])
