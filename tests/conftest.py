"""Settings of the whole suite: warnings are errors, broadcasting between ranks raises."""

import os
from pathlib import Path

import jax
import pytest

os.environ.setdefault("JAX_PLATFORMS", "cpu")
jax.config.update("jax_numpy_rank_promotion", "raise")


def pytest_configure(config):
    config.addinivalue_line("filterwarnings", "error")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """The folder of real data sets; tests that need it are skipped without it."""
    folder = os.environ.get("GRAPHREC_DATA")
    if not folder:
        pytest.skip("needs real data: set GRAPHREC_DATA to the folder that holds it")
    return Path(folder)
