"""The page on Python's objects runs as it stands; packages that log figures are stood in for."""

import re
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

PAGE = (Path(__file__).parent.parent / "docs" / "python.md").read_text(encoding="utf-8")


def loggers():
    """Stand-ins for three packages, which take what theirs take, and the figures that they got:
    package, name, value, epoch."""
    got = []

    class SummaryWriter:
        def __init__(self, folder):
            assert folder == "logs"

        def add_scalar(self, tag, value, step):
            got.append(("tensorboardX", tag, float(value), step))

    def log_metrics(metrics, step):
        for name, value in metrics.items():
            assert re.fullmatch(r"[\w\-. :/]+", name), "what MLflow allows in a name"
            got.append(("mlflow", name, float(value), step))

    def log(metrics):
        got.extend(("wandb", name, value, metrics["epoch"]) for name, value in metrics.items())

    parts = {
        "tensorboardX": {"SummaryWriter": SummaryWriter},
        "mlflow": {"log_metrics": log_metrics},
        "wandb": {"init": lambda project: project, "log": log},
    }
    modules = {}
    for name, held in parts.items():
        modules[name] = ModuleType(name)
        vars(modules[name]).update(held)
    return modules, got


@pytest.mark.slow
def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    stand_ins, got = loggers()
    for name, module in stand_ins.items():
        monkeypatch.setitem(sys.modules, name, module)
    rows = np.random.default_rng(1).integers((30, 20), size=(400, 2))
    lines = "".join(f"{user},{item}\n" for user, item in np.unique(rows, axis=0))
    (tmp_path / "log.csv").write_text("user,item\n" + lines)
    blocks = re.findall(r"```python\n(.*?)```", PAGE, flags=re.DOTALL)
    assert len(blocks) == 10
    names = {}
    for block in blocks:
        exec(compile(block, "python.md", "exec"), names)
    for package in stand_ins:
        told = {(name, step) for by, name, _, step in got if by == package}
        recall = "valid/recall_at_10" if package == "mlflow" else "valid/recall@10"
        assert {("loss", 1), ("loss", 20), (recall, 5)} <= told
    # A customer buys of one of three kinds of products; chance would find a third of them.
    bought = [int(one.removeprefix("SKU-")) for one in names["model"].recommend(7, k=5).ids]
    assert all(one // 30 == 7 % 3 for one in bought)
    assert names["same"].recommend(7, 5).ids == names["model"].recommend(7, 5).ids
    assert "SKU-new" not in names["again"].item_ids
    assert len(names["everybody"]) == 180
    assert "recommend" not in capsys.readouterr().err
