"""What terminals get: no control character of anybody's ids, titles, names or phrases, and nothing
that their encoding lacks."""

import io
import os
import subprocess
import sys
from pathlib import Path

import pytest

from lightgcn_jax.cli.console import facts, say, table, tell
from lightgcn_jax.consoles import PlainConsole
from lightgcn_jax.runs import ConsoleReporter
from tests.lightgcn.cli.test_cli import call, error_of

ESCAPES = "\x1b[2J\x1b]0;title\x07up\x1b[1A\rnew\x9b31m\x00\u202e"
DRAWN = {
    "a line": lambda: ESCAPES,
    "cells": lambda: table(("id", "score"), [(ESCAPES, "1")]),
    "a cell that is cut": lambda: table(("id", "score"), [(ESCAPES, "1")], cut="id"),
    "headings": lambda: table((ESCAPES, "score"), [("1", "1")]),
    "facts": lambda: facts([(ESCAPES, ESCAPES)]),
}


def is_harmless(text):
    return all(sign.isprintable() or sign == "\n" for sign in text)


@pytest.mark.parametrize("drawn", DRAWN)
@pytest.mark.parametrize("width", [30, 200])
def test_nothing_that_a_terminal_obeys_is_printed(drawn, width):
    stream = io.StringIO()
    PlainConsole(file=stream, width=width).print(DRAWN[drawn]())
    assert "\\x1b" in stream.getvalue().replace("\n", "").replace(" ", "")
    assert is_harmless(stream.getvalue())


def test_notes_and_errors_are_harmless_too(capsys):
    say(f"a\nb {ESCAPES}")
    ConsoleReporter().noted(ESCAPES)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("a\nb \\x1b")
    assert is_harmless(err)
    assert is_harmless(error_of("evaluate", f"no{ESCAPES.replace(chr(0), '')}run"))


def test_a_program_gets_the_name_as_it_is_a_terminal_what_it_can_show(capsys, monkeypatch):
    tell(Path("a\x1b[1A"))
    assert capsys.readouterr().out == "a\x1b[1A\n"
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True)
    tell(Path("a\x1b[1A"))
    assert capsys.readouterr().out == "a\\x1b[1A\n"


def run(*arguments, environment, program="lightgcn_jax"):
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-m", program, *arguments],
        capture_output=True,
        env=kept | {"JAX_PLATFORMS": "cpu"} | environment,
        check=False,
    )


NO_LOCALE = {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


@pytest.mark.slow
def test_an_ascii_terminal_without_a_home_prints(tmp_path):
    flags = ("--model", "popular", "--ks", "5", "--out", tmp_path / "run")
    trained = run("train", *flags, environment=NO_LOCALE)
    assert trained.returncode == 0, trained.stderr
    judged = run("evaluate", tmp_path / "run", "--beyond", environment=NO_LOCALE)
    assert judged.returncode == 0, judged.stderr
    for text in (trained.stdout, trained.stderr, judged.stdout):
        assert text.isascii()
    assert b"personalisation" in judged.stdout


@pytest.mark.parametrize("arguments", [("--help",), ("train", "--help"), ("compare", "--help")])
def test_help_is_printed_without_a_locale(arguments):
    found = run(*arguments, environment=NO_LOCALE)
    assert found.returncode == 0, found.stderr
    assert found.stdout.isascii()


@pytest.mark.parametrize(
    ("length", "said"),
    [(4_000, "expected a path of at most 3,800 bytes"), (5_000, "name too long")],
)
def test_a_path_that_is_too_long_is_one_line(length, said, tmp_path):
    path = tmp_path.joinpath(*["x" * 200] * (length // 200))
    status, out, err = call("train", "--model", "popular", "--quiet", "--out", path)
    assert (status, out) == (2, "")
    assert said in err.splitlines()[-1]
    assert not os.listdir(tmp_path)
    assert error_of("evaluate", path)


def test_a_folder_whose_name_is_no_text_is_refused(tmp_path):
    path = tmp_path / os.fsdecode(b"r\xff")
    flags = ("--model", "popular", "--ks", 5, "--quiet")
    status, out, err = call("train", *flags, "--out", path)
    assert (status, out) == (2, "")
    assert "r\\udcff: expected a name in UTF-8" in err.splitlines()[-1]
    assert not os.listdir(tmp_path)
    assert call("train", *flags, "--out", tmp_path / "run").status == 0
    (tmp_path / "run").rename(path)
    assert "r\\udcff: expected a name in UTF-8" in error_of("evaluate", path)


def test_a_log_whose_name_is_no_text_is_read_but_not_kept_by_a_run(tmp_path):
    log, out = (tmp_path / os.fsdecode(name) for name in (b"l\xff.csv", b"o\xff"))
    log.write_text("user,item\na,x\nb,x\nb,y\n")
    assert call("data", "describe", log).status == 0
    flags = ("--model", "popular", "--out", tmp_path / "run")
    assert "--data: " in (said := error_of("train", "--data", log, *flags))
    assert "l\\udcff.csv: expected a name in UTF-8" in said
    # What is made in steps leaves nothing either.
    assert "o\\udcff: expected a name in UTF-8" in error_of("data", "prepare", log, "--out", out)
    assert os.listdir(tmp_path) == [log.name]
