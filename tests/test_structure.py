"""The house's walls: a stage imports only from stages above it, and packages from cores."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From top to bottom; a module may import from its own stage and from those before it.
STAGES = [
    "errors",
    "arrays",
    "files",
    "data",
    "graph",
    "diffusion",
    "models",
    "evaluation",
    "training",
    "serving",
    "cli",
]
MODULES = sorted((ROOT / "lightgcn_jax").rglob("*.py"))


def imported_modules(path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def stage_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_stages_import_from_above(path):
    relative = path.relative_to(ROOT / "lightgcn_jax").with_suffix("")
    stage = relative.parts[0]
    imports = list(imported_modules(path))
    assert not [name for name in imports if name.split(".")[0] in ("torch", "pinsage_jax")]
    if stage in ("__init__", "__main__"):
        return
    for name in imports:
        if name.split(".")[0] == "lightgcn_jax":
            assert stage_of(name), f"{path} imports from the package's root, which imports all"
            assert STAGES.index(stage_of(name)) <= STAGES.index(stage), f"{path} imports {name}"


def test_every_stage_is_known():
    found = {path.relative_to(ROOT / "lightgcn_jax").with_suffix("").parts[0] for path in MODULES}
    assert found - {"__init__", "__main__"} == set(STAGES)


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_package_files_hold_re_exports_only(path):
    if path.name != "__init__.py":
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        allowed = isinstance(node, (ast.ImportFrom, ast.Import, ast.Assign, ast.Expr))
        assert allowed, f"{path}:{node.lineno}: only re-exports and __all__ belong here"


def test_no_drawers():
    names = {path.stem for path in MODULES}
    assert not names & {"utils", "helpers", "common", "misc"}


def test_experimental_sparse_stays_behind_one_file():
    users = [
        path
        for path in MODULES
        if any(name.startswith("jax.experimental") for name in imported_modules(path))
    ]
    assert [path.name for path in users] == ["csr.py"]
