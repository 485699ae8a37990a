"""The README's own text runs."""

import re
import shlex
from pathlib import Path

import pytest

from lightgcn_jax.cli import main

README = (Path(__file__).parent.parent / "README.md").read_text(encoding="utf-8")


def blocks(language):
    return re.findall(rf"```{language}\n(.*?)```", README, flags=re.DOTALL)


def test_the_python_example_recommends(capsys):
    (example,) = blocks("python")
    exec(compile(example, "README.md", "exec"), {})
    recall, recommended, similar = capsys.readouterr().out.splitlines()
    # A reader reads in one of three genres of thirty books; chance would be 10 of 90.
    assert float(recall) > 0.2
    genre = range(30 * (7 % 3), 30 * (7 % 3) + 30)
    assert {f"book-{n}" for n in genre} >= set(re.findall(r"book-\d+", recommended))
    assert similar.startswith("[Ranked(")


def test_the_first_command_trains_and_recommends(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    install, *commands = blocks("bash")[0].strip().split(" && ")
    assert install == "pip install ."
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "lightgcn-jax"
        # Fewer epochs than a person would train: the command is what is tested.
        extra = ["--epochs", "2"] if arguments[0] == "train" else []
        assert main([*arguments, *extra]) == 0
    assert "user-1" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line", [line for line in blocks("bash")[2].splitlines() if line.startswith("lightgcn-jax")]
)
def test_every_shell_example_parses(line, capsys, tmp_path, monkeypatch):
    """Each fails at most for the files that it names, never for its words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAPHREC_DATA", raising=False)
    arguments = shlex.split(line, comments=True)[1:]
    status = main([*arguments, "--no-download"] if "--dataset" in arguments else arguments)
    errors = capsys.readouterr().err
    assert (status == 0) == (arguments[:2] == ["data", "list"])
    if status:
        assert status == 2
        assert re.search("expected|there is no|not found|no such", errors.lower()), errors
        assert "Traceback" not in errors
        assert "usage" not in errors.lower()
