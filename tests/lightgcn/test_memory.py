"""Settings that need more memory than there is are refused in a sentence, before any is taken."""

import pytest

from lightgcn_jax import memory
from lightgcn_jax.errors import InputError
from lightgcn_jax.memory import check_memory, device_memory, in_words
from lightgcn_jax.runs import fit
from lightgcn_jax.settings import ClosedFormConfig
from lightgcn_jax.settings.names import replaced


def test_bytes_in_words():
    found = [in_words(count) for count in (0, 999, 1600, 2.5e9, 4e12, 3e22)]
    assert found == ["0 bytes", "999 bytes", "1.6 kB", "2.5 GB", "4 TB", "3e+04 EB"]


def test_what_fits_is_what_the_device_has(monkeypatch):
    assert 1 << 28 < device_memory() <= 1 << 62
    monkeypatch.setattr(memory, "device_memory", lambda: 2_000)
    check_memory(2_000, "dim")
    message = "memory: the settings take at least 2 kB, of which there are 2 kB; try a smaller dim"
    with pytest.raises(InputError, match=message):
        check_memory(2_001, "dim")


@pytest.mark.parametrize(
    "given",
    [
        {"dim": 100_000_000},
        {"batch_size": 2 * 10**9, "negatives": 999},
        {"dim": 10**6, "seeds": 99},
        {"score": "mlp", "hidden": 2 * 10**9},
    ],
)
def test_settings_that_cannot_fit_are_refused(given, small_split, small_config, tmp_path):
    with pytest.raises(InputError, match=r"memory: the settings take at least [0-9.e+]+ [GTPE]?B"):
        fit(small_split, replaced(small_config, given), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"layers": 2**31 - 1}, "layers: expected at most 1,000, got 2147483647"),
        ({"layers": 10**30}, "layers: expected at most 1,000"),
        ({"batch_size": 10**12}, "batch_size: expected at most 2,147,483,647"),
        ({"dim": 2**40}, "dim: expected at most 2,147,483,647"),
        ({"seeds": 10**6}, "seeds: expected at most 10,000"),
    ],
)
def test_numbers_beyond_meaning_are_refused(given, message, small_config):
    with pytest.raises(InputError, match=message):
        replaced(small_config, given)


def test_a_polynomial_has_an_end():
    with pytest.raises(InputError, match="polynomial_degree: expected at most 1,000"):
        replaced(ClosedFormConfig(), {"model": "filter", "polynomial_degree": 10**9})
