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
    "roofline",
    "models",
    "evaluation",
    "settings",
    "training",
    "runs",
    "sweeps",
    "serving",
    "cli",
]
PINSAGE_STAGES = [
    "features",
    "graph",
    "data",
    "negatives",
    "tasks",
    "config",
    "encoder",
    "evaluation",
    "training",
    "serving",
    "runs",
    "experiments",
    "cli",
]
MODULES = sorted((ROOT / "lightgcn_jax").rglob("*.py"))
PINSAGE_MODULES = sorted((ROOT / "pinsage_jax").rglob("*.py"))
BOTH_PACKAGES = [*MODULES, *PINSAGE_MODULES]


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


@pytest.mark.parametrize("path", PINSAGE_MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pinsage_stands_on_the_core_without_torch(path):
    """Its imports are absolute, and never of its own root, which imports all."""
    imports = list(imported_modules(path))
    assert not [name for name in imports if name.split(".")[0] in ("torch", "tests", "benchmarks")]
    assert "pinsage_jax" not in imports


@pytest.mark.parametrize("path", PINSAGE_MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_pinsage_stages_import_from_above(path):
    stage = path.relative_to(ROOT / "pinsage_jax").with_suffix("").parts[0]
    if stage in ("__init__", "__main__"):
        return
    for name in imported_modules(path):
        if name.split(".")[0] == "pinsage_jax":
            above = PINSAGE_STAGES.index(stage_of(name)) <= PINSAGE_STAGES.index(stage)
            assert above, f"{path} imports {name}"


def test_pinsage_imports_the_core():
    """The other direction is forbidden above, module by module."""
    imports = {name.split(".")[0] for path in PINSAGE_MODULES for name in imported_modules(path)}
    assert "lightgcn_jax" in imports


@pytest.mark.parametrize(
    ("package", "modules", "stages"),
    [("lightgcn_jax", MODULES, STAGES), ("pinsage_jax", PINSAGE_MODULES, PINSAGE_STAGES)],
)
def test_every_stage_is_known(package, modules, stages):
    found = {path.relative_to(ROOT / package).with_suffix("").parts[0] for path in modules}
    assert found - {"__init__", "__main__"} == set(stages)


@pytest.mark.parametrize("path", BOTH_PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_package_files_hold_re_exports_only(path):
    if path.name != "__init__.py":
        return
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        allowed = isinstance(node, (ast.ImportFrom, ast.Import, ast.Assign, ast.Expr))
        assert allowed, f"{path}:{node.lineno}: only re-exports and __all__ belong here"


def test_no_drawers():
    names = {path.stem for path in BOTH_PACKAGES}
    assert not names & {"utils", "helpers", "common", "misc"}


# Parts of JAX that may change or go with any release, and the files that may know of them.
EXPERIMENTAL = {"sparse": "jax_sparse", "pallas": "pallas", "topologies": "targets"}


def experimental_parts(path):
    """What of ``jax.experimental`` a file uses."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.Attribute):
            names = [ast.unparse(node)]
        else:
            continue
        for name in names:
            if f"{name}.".startswith("jax.experimental."):
                yield [*name.split("."), "all of it"][2]


@pytest.mark.parametrize("path", BOTH_PACKAGES, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_is_experimental_stays_behind_its_own_files(path):
    for part in experimental_parts(path):
        assert part in EXPERIMENTAL, f"{path} uses jax.experimental: {part}"
        owner = EXPERIMENTAL[part]
        assert path.stem == owner or path.stem.startswith(f"{owner}_"), f"{path} uses {part}"


def test_experimental_parts_are_found(tmp_path):
    used = {part for path in MODULES for part in experimental_parts(path)}
    assert "sparse" in used
    path = tmp_path / "module.py"
    path.write_text(
        "from jax.experimental import sparse\nfrom jax.experimental.pallas import triton\n"
        "import jax.experimental.topologies\nimport jax\njax.experimental.io_callback(f)\n"
        "from jax import experimental\n"
    )
    parts = set(experimental_parts(path))
    assert {"sparse", "pallas", "topologies", "io_callback", "all of it"} <= parts
