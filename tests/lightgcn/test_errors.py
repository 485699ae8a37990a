"""Errors name a file once."""

from pathlib import Path

import pytest

from lightgcn_jax.errors import InputError, naming


def test_a_file_is_named_once():
    path = Path("run/a.json")
    with pytest.raises(InputError, match=r"^run/a\.json: x$"), naming(path), naming(path):
        raise InputError("x")
    with pytest.raises(InputError, match=r"^run/a\.json: seeds\[0\]$"), naming(path):
        raise InputError(f"{path}: seeds[0]")
