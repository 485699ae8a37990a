"""The README's own text runs."""

import ast
import re
import shlex
from pathlib import Path

import jax
import numpy as np
import pytest

from lightgcn_jax.cli import main as lightgcn_main
from pinsage_jax.cli import main as pinsage_main

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
GUIDE = (ROOT / "docs" / "getting-started.md").read_text(encoding="utf-8")


def blocks(language, text=README):
    return re.findall(rf"```{language}\n(.*?)```", text, flags=re.DOTALL)


def test_the_python_example_recommends(capsys):
    example, own_model = blocks("python")
    names = {}
    exec(compile(example, "README.md", "exec"), names)
    said = capsys.readouterr().out
    seven, new, thirty_one = (ast.literal_eval(one) for one in re.findall(r"\[.*?\]", said))
    # A reader reads in one of three genres of thirty books.
    assert {book // 30 for book in seven} == {7 % 3}
    assert {book // 30 for book in (*new, *thirty_one)} == {31 // 30}
    assert not {31, 35} & {*new}
    exec(compile(own_model, "README.md", "exec"), names)
    model = names["Mixed"]()
    params = model.init(jax.random.key(0), 2)
    # The graph of one pair, normalised, swaps its two nodes: both get the mean of their vectors.
    mean = np.broadcast_to(np.asarray(params.table).mean(axis=0), (2, 16))
    np.testing.assert_allclose(model.apply(params, np.eye(2)[::-1]), mean, atol=1e-7)


def test_the_page_is_one_page():
    assert README.count("\n") <= 150
    assert 700 <= len(README.split()) <= 900
    assert README.count("![") == 3
    assert len(re.findall(r"^\|[-|]+\|$", README, flags=re.MULTILINE)) == 2


PAGES = [*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_somewhere(page):
    text = re.sub(r"```.*?```|`[^`]*`", "", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)", text):
        place, _, heading = link.partition("#")
        if place.startswith("https:"):
            continue
        target = page.parent / place if place else page
        assert target.is_file(), link
        if heading:
            headings = re.findall(r"^#+ (.*)", target.read_text(encoding="utf-8"), re.MULTILINE)
            slugs = {re.sub(r"[^\w -]", "", one.lower()).replace(" ", "-") for one in headings}
            assert heading in slugs, link


def test_the_first_command_trains_and_recommends(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    install, *commands = blocks("bash")[0].strip().split(" && ")
    assert install == "pip install ."
    for command in commands:
        program, *arguments = shlex.split(command)
        assert program == "lightgcn-jax"
        # Fewer epochs than a person would train: the command is what is tested.
        extra = ["--epochs", "1"] if arguments[0] == "train" else []
        assert lightgcn_main([*arguments, *extra]) == 0
    assert "user-1" in capsys.readouterr().out


EXAMPLES = [
    line
    for block in [*blocks("bash")[2:], *blocks("bash", GUIDE)]
    for line in block.splitlines()
    # What needs no file would train or measure.
    if line.startswith(("lightgcn-jax", "pinsage-jax"))
    and not line.startswith(
        ("lightgcn-jax diffusion", "pinsage-jax train --out", "pinsage-jax abl")
    )
]


@pytest.mark.parametrize("line", EXAMPLES)
def test_every_shell_example_parses(line, capsys, tmp_path, monkeypatch):
    """Each fails at most for the files that it names, never for its words."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("GRAPHREC_DATA", raising=False)
    program, *arguments = shlex.split(line, comments=True)
    main = {"lightgcn-jax": lightgcn_main, "pinsage-jax": pinsage_main}[program]
    status = main([*arguments, "--no-download"] if "--dataset" in arguments else arguments)
    errors = capsys.readouterr().err
    assert (status == 0) == (arguments[:2] == ["data", "list"])
    if status:
        assert status == 2
        assert re.search("expected|there is no|not found|no such", errors.lower()), errors
        assert "Traceback" not in errors
        assert "usage" not in errors.lower()
