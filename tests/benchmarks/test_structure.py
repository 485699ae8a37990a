"""The rooms of ``benchmarks`` stand in one order, and every benchmark can be asked for by name."""

import argparse
import ast
import importlib
from pathlib import Path

import pytest

from benchmarks.__main__ import BENCHMARKS, main

ROOT = Path(__file__).parents[2]
# From the first to the last; a module may import from its own room and from those before it.
ROOMS = ["harness", "workloads", "peers", "speed", "tables", "parity"]
PATHS = {
    ".".join(path.relative_to(ROOT).with_suffix("").parts): path
    for path in sorted((ROOT / "benchmarks").rglob("*.py"))
}
MODULES = {name: path for name, path in PATHS.items() if path.parent.name in ROOMS}


def imports_of(name):
    """Modules of ``benchmarks`` that a file imports, wherever in it."""
    found = set()
    for node in ast.walk(ast.parse(PATHS[name].read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{name}: imports are absolute"
            inside = {f"{node.module}.{alias.name}" for alias in node.names} & set(PATHS)
            found |= inside or {node.module}
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & set(PATHS)


@pytest.mark.parametrize("name", MODULES)
def test_rooms_import_from_those_before_them(name):
    room = MODULES[name].parent.name
    for other in imports_of(name):
        assert ROOMS.index(PATHS[other].parent.name) <= ROOMS.index(room), f"{name}: {other}"


def test_every_room_is_known():
    assert {path.parent.name for path in PATHS.values()} == {"benchmarks", *ROOMS}
    assert "benchmarks.peers.torch_lightgcn" in imports_of("benchmarks.speed.train_step")


@pytest.mark.parametrize("name", BENCHMARKS)
def test_every_benchmark_has_its_options(name):
    pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")
    pytest.importorskip("torch_geometric", reason="needs PyG, which the bench extra brings")
    pytest.importorskip("numba", reason="needs numba, which the bench extra brings")
    module = importlib.import_module(BENCHMARKS[name].module)
    parser = argparse.ArgumentParser()
    module.add_options(parser)
    parser.parse_args([])
    assert callable(module.run)


@pytest.mark.parametrize("argv", [[], ["--help"]])
def test_without_a_name_all_names_are_listed(argv, capsys):
    assert main(argv) == 0
    printed = capsys.readouterr().out
    for name, benchmark in BENCHMARKS.items():
        assert f"{name} " in printed
        assert benchmark.about in printed
