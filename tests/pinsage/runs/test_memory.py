"""Settings that need more memory than there is are refused in a sentence, before any is taken."""

import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax import fit
from tests.pinsage.trained import pins_task, tiny


@pytest.mark.parametrize(
    "given", [{"dim": 10**7}, {"neighbors": 2 * 10**9}, {"negatives": 2 * 10**9}]
)
def test_an_encoder_that_cannot_fit_is_refused(given, tmp_path):
    with pytest.raises(InputError, match="memory: the settings take at least"):
        fit(pins_task(), tiny(**given), out=tmp_path / "run")
    assert not list(tmp_path.iterdir())


def test_layers_have_an_end():
    with pytest.raises(InputError, match="layers: expected at most 1,000"):
        tiny(layers=10**9)
