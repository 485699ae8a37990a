"""The house's walls: a stage imports only from stages above it, files go in no circle, modules are
short, and every public function says what it takes."""

import ast
import functools
import graphlib
import importlib
import inspect
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# From top to bottom; a module may import from its own stage and from those before it.
STAGES = [
    "errors",
    "consoles",
    "shown",
    "arrays",
    "fields",
    "interrupts",
    "paths",
    "files",
    "json_files",
    "sums",
    "begun",
    "meter",
    "parted",
    "asked",
    "allocator",
    "memory",
    "caches",
    "processes",
    "data",
    "graph",
    "diffusion",
    "prepared",
    "roofline",
    "evaluation",
    "models",
    "sharding",
    "language",
    "training",
    "settings",
    "runs",
    "planning",
    "sweeps",
    "serving",
    "estimators",
    "service",
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
    "planning",
    "experiments",
    "estimators",
    "service",
    "cli",
]
MODULES = sorted((ROOT / "lightgcn_jax").rglob("*.py"))
PINSAGE_MODULES = sorted((ROOT / "pinsage_jax").rglob("*.py"))
BOTH_PACKAGES = [*MODULES, *PINSAGE_MODULES]
BENCHMARKS = sorted((ROOT / "benchmarks").rglob("*.py"))


def name_of(path):
    """A file's module; of a package's own file the package."""
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


FILES = {name_of(path): path for path in [*BOTH_PACKAGES, *BENCHMARKS]}


@functools.cache
def tree_of(path):
    return ast.parse(path.read_text(encoding="utf-8"))


@functools.cache
def imports_of(path):
    """The imports of a file, wherever in it."""
    return [one for one in ast.walk(tree_of(path)) if isinstance(one, ast.Import | ast.ImportFrom)]


def imported_modules(path):
    for node in imports_of(path):
        if isinstance(node, ast.ImportFrom) and node.module:
            assert node.level == 0, f"{path}: imports are absolute"
            yield node.module
        elif isinstance(node, ast.Import):
            yield from (name.name for name in node.names)


def stage_of(module):
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else None


def imports_from_below(package, stages, paths):
    """What a module imports from a later stage than its own, or from the package's root, which
    imports all."""
    for path in paths:
        stage = path.relative_to(ROOT / package).with_suffix("").parts[0]
        for name in imported_modules(path) if stage not in ("__init__", "__main__") else ():
            if name.split(".")[0] == package:
                above = stage_of(name) and stages.index(stage_of(name)) <= stages.index(stage)
                if not above:
                    yield f"{name_of(path)} imports {name}"


def test_stages_import_from_above():
    assert not list(imports_from_below("lightgcn_jax", STAGES, MODULES))
    assert not list(imports_from_below("pinsage_jax", PINSAGE_STAGES, PINSAGE_MODULES))
    assert list(imports_from_below("lightgcn_jax", STAGES[::-1], MODULES))


def test_the_core_imports_nothing_that_stands_on_it():
    imports = {name.split(".")[0] for path in MODULES for name in imported_modules(path)}
    assert not imports & {"torch", "pinsage_jax", "tests", "benchmarks"}


def test_pinsage_stands_on_the_core_without_torch():
    imports = {name.split(".")[0] for path in PINSAGE_MODULES for name in imported_modules(path)}
    assert "lightgcn_jax" in imports
    assert not imports & {"torch", "tests", "benchmarks"}


@pytest.mark.parametrize(
    ("package", "modules", "stages"),
    [("lightgcn_jax", MODULES, STAGES), ("pinsage_jax", PINSAGE_MODULES, PINSAGE_STAGES)],
)
def test_every_stage_is_known(package, modules, stages):
    found = {path.relative_to(ROOT / package).with_suffix("").parts[0] for path in modules}
    assert found - {"__init__", "__main__"} == set(stages)


def test_settings_are_values_of_the_host():
    paths = [path for path in MODULES if path.is_relative_to(ROOT / "lightgcn_jax" / "settings")]
    imports = {name.split(".")[0] for path in paths for name in imported_modules(path)}
    assert paths
    assert not imports & {"jax", "flax", "optax"}


def imported_files(path):
    """The files of the house that a file imports, wherever in it, by their modules."""
    found = set()
    for node in imports_of(path):
        if isinstance(node, ast.ImportFrom):
            names = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= names | ({node.module} if names - FILES.keys() else set())
        elif isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
    return found & FILES.keys()


def circle_among(imports):
    """The first circle of modules, each imported by the next, or None."""
    try:
        graphlib.TopologicalSorter(imports).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_files_go_in_no_circle():
    """Imports for type checkers alone and those inside of functions are counted."""
    imports = {name: imported_files(path) for name, path in FILES.items()}
    assert "lightgcn_jax.models.model" in imports["lightgcn_jax.models.lightgcn"]
    circle = circle_among(imports)
    assert circle is None, " <- ".join(circle)
    imports["lightgcn_jax.errors"] = {"lightgcn_jax.models.lightgcn"}
    assert "lightgcn_jax.errors" in circle_among(imports)


def hidden_imports(tree):
    """Lines of imports that stand under a condition on TYPE_CHECKING."""
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            inside = (one for one in ast.walk(node) if isinstance(one, ast.Import | ast.ImportFrom))
            yield from (one.lineno for one in inside)


def test_nothing_is_imported_for_type_checkers_alone():
    for path in FILES.values():
        assert not list(hidden_imports(tree_of(path))), path
    hidden = "if typing.TYPE_CHECKING:\n    import os\nif TYPE_CHECKING:\n    a = 1\n"
    assert list(hidden_imports(ast.parse(hidden))) == [2]


def test_modules_are_short():
    lengths = {
        name: len(path.read_text(encoding="utf-8").splitlines()) for name, path in FILES.items()
    }
    assert not {name for name, length in lengths.items() if length > 400}


def test_package_files_hold_re_exports_only():
    for path in BOTH_PACKAGES:
        for node in tree_of(path).body if path.name == "__init__.py" else ():
            allowed = isinstance(node, (ast.ImportFrom, ast.Import, ast.Assign, ast.Expr))
            assert allowed, f"{path}:{node.lineno}: only re-exports and __all__ belong here"


def test_no_drawers():
    names = {path.stem for path in BOTH_PACKAGES}
    assert not names & {"utils", "helpers", "common", "misc"}


def listed(docstring, section):
    """The names that a section of a docstring explains."""
    lines = inspect.cleandoc(docstring or "").partition(f"{section}:\n")[2].splitlines()
    names = set()
    for line in lines:
        if line and not line.startswith(" "):
            break
        if found := re.match(r"    ([\w*, ]+?)(?: \([^)]*\))?:", line):
            names |= {name.strip(" *") for name in found[1].split(",")}
    return names


def decorators(node):
    return {ast.unparse(one).partition("(")[0].rpartition(".")[2] for one in node.decorator_list}


def public_definitions(body, prefix=""):
    """Functions, methods and classes that anybody may use, with their names."""
    for node in body:
        if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            continue
        if not node.name.startswith("_") or node.name == "__call__":
            if "overload" not in decorators(node):
                yield prefix + node.name, node
            if isinstance(node, ast.ClassDef):
                yield from public_definitions(node.body, f"{prefix}{node.name}.")


def parameters(node):
    """What a function takes, or what a class with fields is made of, and where it is explained."""
    if not isinstance(node, ast.ClassDef):
        every = [*node.args.posonlyargs, *node.args.args, *node.args.kwonlyargs]
        every += [one for one in (node.args.vararg, node.args.kwarg) if one]
        names = [one.arg for one in every if one.arg not in ("self", "cls")]
    elif "dataclass" in decorators(node) or "NamedTuple" in map(ast.unparse, node.bases):
        fields = (one for one in node.body if isinstance(one, ast.AnnAssign))
        names = [
            ast.unparse(one.target)
            for one in fields
            if "ClassVar" not in ast.unparse(one.annotation)
        ]
    else:
        names = []
    return {name for name in names if not name.startswith("_")}


def explained(path, name, node):
    """The names that a docstring explains, an inherited one where there is none, and of a class
    also those of its bases."""
    section = "Attributes" if isinstance(node, ast.ClassDef) else "Args"
    names = listed(ast.get_docstring(node), section)
    if parameters(node) <= names or path in BENCHMARKS:
        return names
    thing = importlib.import_module(name_of(path))
    for part in name.split("."):
        thing = (
            inspect.getattr_static(thing, part) if inspect.isclass(thing) else getattr(thing, part)
        )
    bases = thing.__mro__ if inspect.isclass(thing) else ()
    if not bases and ast.get_docstring(node) is None:
        names = listed(inspect.getdoc(thing), section)
    return names.union(*(listed(base.__doc__, section) for base in bases))


def unexplained(path):
    """What no docstring explains: a line for each function or class of a module."""
    for name, node in public_definitions(tree_of(path).body):
        missing = parameters(node) - explained(path, name, node)
        if missing:
            yield f"{path}:{node.lineno} {name}: {', '.join(sorted(missing))}"


@pytest.mark.parametrize("path", FILES.values(), ids=FILES)
def test_every_public_function_says_what_it_takes(path):
    missing = list(unexplained(path))
    assert not missing, "\n".join(missing)


def test_what_is_not_explained_is_found(tmp_path, monkeypatch):
    path = tmp_path / "module.py"
    path.write_text(
        '''
def whole(a, *b, c=1, _d=None, **e):
    """Do.

    Args:
        a, b: numbers.
        c (int): a number
            of two lines: yes.
        e: the rest.

    Returns:
        f: nothing.
    """
def some(a, b):
    """Do.

    Args:
        a: a number.

    Returns:
        b: a number.
    """
def none(a): ...
def _private(a): ...
@overload
def typed(a): ...
class Thing:
    def __call__(self, a): """Do."""
    def __len__(self, a): ...
    def method(self): ...
@dataclasses.dataclass(frozen=True)
class Record:
    """A record.

    Attributes:
        a: a number.
    """
    a: int
    b: int
    _c: int
    D: ClassVar[int] = 1
''',
        encoding="utf-8",
    )
    monkeypatch.setitem(globals(), "BENCHMARKS", [path])
    found = [line.partition(" ")[2] for line in unexplained(path)]
    assert found == ["some: b", "none: a", "Thing.__call__: a", "Record: b"]


# Parts of JAX that may change or go with any release, and the files that may know of them.
EXPERIMENTAL = {
    "sparse": "jax_sparse",
    "pallas": "pallas",
    "topologies": "targets",
    "multihost_utils": "agreement",
}


def experimental_parts(path):
    """What of ``jax.experimental`` a file uses."""
    for node in ast.walk(tree_of(path)):
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


def test_what_is_experimental_stays_behind_its_own_files():
    for path in BOTH_PACKAGES:
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
