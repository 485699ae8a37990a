"""The page on Python's objects runs as it stands, but for what needs packages that are not here."""

import re
from pathlib import Path

import numpy as np
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")


@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    rows = np.random.default_rng(1).integers((30, 20), size=(400, 2))
    lines = "".join(f"{user},{item}\n" for user, item in np.unique(rows, axis=0))
    (tmp_path / "log.csv").write_text("user,item\n" + lines)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 10
    names = {}
    for block in blocks:
        if not block.startswith("# needs "):
            exec(compile(block, "python.md", "exec"), names)
    # A customer buys of one of three kinds of products; chance would find a third of them.
    bought = [int(one.removeprefix("SKU-")) for one in names["model"].recommend(7, k=5).ids]
    assert all(one // 30 == 7 % 3 for one in bought)
    assert names["same"].recommend(7, 5).ids == names["model"].recommend(7, 5).ids
    assert "SKU-new" not in names["again"].item_ids
    assert len(names["everybody"]) == 180
    assert "recommend" not in capsys.readouterr().err


@pytest.mark.parametrize("package", ["tensorboardX", "mlflow", "wandb"])
def test_blocks_of_other_packages_are_python(package):
    (block,) = re.findall(rf"```python\n(# needs {package}\n.*?)```", PAGE, flags=re.DOTALL)
    compile(block, "python.md", "exec")
