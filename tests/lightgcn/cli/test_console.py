"""Tables fit the console with whole headings and whole numbers, at 80 columns and at 120."""

import io

import pytest
from rich.console import Console

from lightgcn_jax.cli import datasets
from lightgcn_jax.cli.console import metrics_table, table
from lightgcn_jax.data import dataset_names
from lightgcn_jax.evaluation.metrics import metric_names
from pinsage_jax.cli.runs import parts_table
from pinsage_jax.evaluation.metrics import CUTOFFS

METRICS = dict.fromkeys(metric_names((10, 20, 50)), 0.1234)
SPREADS = {name: {"ci95_half_width": 0.0123} for name in METRICS}
OF_PAIRS = ["mrr", *(f"{name}@{k}" for name in ("hit_rate", "recall", "ndcg") for k in CUTOFFS)]


def captured(drawn, width):
    stream = io.StringIO()
    Console(file=stream, width=width, markup=False).print(drawn)
    lines = stream.getvalue().splitlines()
    assert max(map(len, lines)) <= width
    return [line.split() for line in lines if line.strip() and "─" not in line]


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("spreads", [None, {"test": SPREADS}])
def test_metrics(width, spreads):
    lines = captured(metrics_table({"test": METRICS, "popularity": METRICS}, spreads), width)
    headings = [line for line in lines if line[0] == "part"]
    assert [name for line in headings for name in line[2:]] == list(
        dict.fromkeys(name.partition("@")[0] for name in METRICS)
    )
    assert all(line[:2] == ["part", "k"] for line in headings)
    # One table where it fits, else as few as do; a part and its cut-off begin each line of each.
    assert len(headings) == (1 if spreads is None else 2)
    assert lines.count(["test", "20", *["0.1234"] * 8]) == (spreads is None)
    of_test = [line for line in lines if line[:2] == ["test", "20"]]
    assert len(of_test) == len(headings)
    assert sum(line.count("±0.0123") for line in of_test) == (0 if spreads is None else 8)


@pytest.mark.parametrize("width", [80, 120])
def test_metrics_of_pairs(width):
    figures = dict.fromkeys(OF_PAIRS, 0.1)
    lines = captured(parts_table({"test": figures, "popularity": figures}), width)
    headings = [name for line in lines if line[0] == "part" for name in line[1:]]
    assert headings == OF_PAIRS
    assert sum(line.count("0.1000") for line in lines if line[0] == "test") == len(OF_PAIRS)


@pytest.mark.parametrize("width", [40, 80, 120])
def test_long_texts_are_broken_or_cut_to_a_line(width):
    row = ("item-1", 7, "word " * 60)
    broken = captured(table(("item", "score", "words"), [row], numbers=("score",)), width)
    assert broken[0] == ["item", "score", "words"]
    assert sum(line.count("word") for line in broken) == 60
    cut = captured(table(("item", "score", "words"), [row], numbers=("score",), cut="words"), width)
    assert len(cut) == 2
    assert cut[1][:3] == ["item-1", "7", "word"]
    assert cut[1][-1].endswith("…")


def test_data_sets_have_a_line_each(monkeypatch, capsys):
    monkeypatch.delenv("GRAPHREC_DATA", raising=False)
    assert datasets.List().run() == 0  # to no terminal
    out = capsys.readouterr().out
    assert max(map(len, out.splitlines())) <= 80
    lines = [line.split() for line in out.splitlines() if line.strip()]
    assert [line[0] for line in lines[2:]] == list(dataset_names())
    assert lines[0] == ["name", "users", "items", "interactions", "at", "hand", "licence"]
