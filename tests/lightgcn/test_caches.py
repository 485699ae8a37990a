"""What is compiled is kept for the next process, and is never in the way."""

import os
import subprocess
import sys

import pytest

from lightgcn_jax import caches

VARIABLES = (
    "JAX_COMPILATION_CACHE_DIR",
    "JAX_ENABLE_COMPILATION_CACHE",
    "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS",
    "JAX_COMPILATION_CACHE_MAX_SIZE",
)


@pytest.fixture(autouse=True)
def _home(monkeypatch, tmp_path):
    """A cache folder and an environment of the test's own, as they were afterwards."""
    for name in VARIABLES:
        monkeypatch.setenv(name, "")
        monkeypatch.delenv(name)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))


def test_the_folder_is_the_user_s_and_of_this_processor(monkeypatch, tmp_path):
    caches.keep_compiled()
    folder = os.environ["JAX_COMPILATION_CACHE_DIR"]
    assert os.path.dirname(folder) == str(tmp_path / "lightgcn-jax" / "compiled")
    monkeypatch.delenv("JAX_COMPILATION_CACHE_DIR")
    monkeypatch.setattr(caches, "_instructions", lambda: "another processor")
    caches.keep_compiled()
    assert os.environ["JAX_COMPILATION_CACHE_DIR"] != folder


@pytest.mark.parametrize("name", VARIABLES[:2])
def test_an_environment_that_says_otherwise_is_left_alone(name, monkeypatch, tmp_path):
    monkeypatch.setenv(name, "elsewhere")
    caches.keep_compiled()
    assert {one: os.environ[one] for one in VARIABLES if one in os.environ} == {name: "elsewhere"}
    assert not list(tmp_path.iterdir())


def test_it_is_turned_off_and_a_folder_that_cannot_be_made_is_done_without(tmp_path):
    (tmp_path / "lightgcn-jax").write_text("a file stands here")
    caches.keep_compiled()
    assert "JAX_COMPILATION_CACHE_DIR" not in os.environ
    caches.keep_compiled(wanted=False)
    assert os.environ["JAX_ENABLE_COMPILATION_CACHE"] == "false"


PROGRAM = """
import warnings
from lightgcn_jax.caches import is_of_the_cache, keep_compiled

keep_compiled()
import jax

with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    print(jax.jit(lambda x: 3 * x + 1)(2))
print(sum(is_of_the_cache(str(one.message)) for one in caught), len(caught))
"""


def test_what_is_damaged_is_compiled_again(monkeypatch, tmp_path):
    monkeypatch.setenv("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")

    def printed():
        done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        return done.stdout.split()

    assert printed() == ["7", "0", "0"]
    kept = [*tmp_path.rglob("*-cache")]
    assert kept
    for file in kept:
        file.write_bytes(b"damaged")
    answer, of_the_cache, warned = printed()
    assert answer == "7"
    assert int(of_the_cache) == int(warned) > 0
