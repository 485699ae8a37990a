"""The tutorials run as they stand: the code cells of each notebook, in their order."""

import json
from pathlib import Path

import pytest

FOLDER = Path(__file__).parent.parent / "docs" / "tutorials"
NAMES = sorted(path.stem for path in FOLDER.glob("*.ipynb"))


def cells_of(name):
    book = json.loads((FOLDER / f"{name}.ipynb").read_text(encoding="utf-8"))
    assert book["nbformat"] == 4
    return book["cells"]


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
def test_a_tutorial_runs(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    names = {}
    for place, cell in enumerate(cells_of(name)):
        if cell["cell_type"] == "code":
            exec(compile("".join(cell["source"]), f"{name}.ipynb, cell {place}", "exec"), names)


def test_tutorials_are_prose_first_without_outputs_and_listed():
    assert len(NAMES) == 5
    listed = (FOLDER.parent / "getting-started.md").read_text(encoding="utf-8")
    for name in NAMES:
        cells = cells_of(name)
        assert cells[0]["cell_type"] == "markdown"
        assert not any(cell.get("outputs") or cell.get("execution_count") for cell in cells)
        assert f"(tutorials/{name}.ipynb)" in listed
