"""Settings of the whole suite: warnings are errors, broadcasting between ranks raises.

Compile time dominates the suite, and many tests compile the same programs: all of them, and the
processes they start, share one compilation cache that goes when the suite ends. Machine code is not
optimised and fusions are emitted in the plainer of XLA's two ways, which takes two thirds of the
compile time off and changes no program above LLVM; XLA_FLAGS, where it is set, has the say
(``XLA_FLAGS= python -m pytest`` tests what users run). Where JAX_COMPILATION_CACHE_DIR is set, the
cache there is taken and kept: the next suite compiles nothing that has not changed.

A property is tried on a few examples, others each time, where a test does not say on how many;
``--hypothesis-profile full`` tries it on many.

Tracing makes many objects, and what was imported stays: the collector looks at the latter no more
and at the former seldom.
"""

import gc
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import pytest
from hypothesis import settings

_OWN_CACHE = "JAX_COMPILATION_CACHE_DIR" not in os.environ
if _OWN_CACHE:
    os.environ["JAX_COMPILATION_CACHE_DIR"] = tempfile.mkdtemp(prefix="compiled-")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("JAX_PLATFORMS", "cpu")
_FLAGS = "--xla_backend_optimization_level=0"
if version("jaxlib").startswith("0.10."):  # a flag that XLA does not know would end the process
    _FLAGS += " --xla_cpu_use_fusion_emitters=false"
os.environ.setdefault("XLA_FLAGS", _FLAGS)

gc.set_threshold(100_000, 50, 100)

settings.register_profile("fast", max_examples=20)
settings.register_profile("full", max_examples=200)
settings.load_profile("fast")

import jax  # noqa: E402, after the settings that it reads when imported

jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "error")
    # Two workers share the cache: what one reads while the other writes it is compiled once more.
    half_written = "ignore:Error reading persistent compilation cache entry:UserWarning"
    config.addinivalue_line("filterwarnings", half_written)


def pytest_collection_finish():
    gc.collect()
    gc.freeze()


def pytest_unconfigure():
    # Workers inherit the folder; only the process that made it removes it.
    if _OWN_CACHE:
        shutil.rmtree(os.environ["JAX_COMPILATION_CACHE_DIR"], ignore_errors=True)


_MANY_MAPPINGS = 30_000
"""Of the 65,530 that Linux lets a process have; every compiled program takes some."""


@pytest.fixture(autouse=True, scope="module")
def _programs_that_fit():
    """Forget compiled programs before a process has no room for another, which crashes it."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > _MANY_MAPPINGS:
        jax.clear_caches()


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it are skipped without it."""
    folder = os.environ.get("GRAPHREC_DATA")
    if not folder:
        pytest.skip("needs real data: set GRAPHREC_DATA to the folder that holds it")
    return Path(folder)
