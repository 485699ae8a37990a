"""Reports read programs as users compile them, not as the suite does (see tests/conftest.py)."""

import os

import jax
import pytest


@pytest.fixture(scope="module", autouse=True)
def _fusions_as_users_have_them():
    """The suite's plainer fusions turn a scatter into a loop, which no report could count."""
    compiled = jax.stages.Lowered.compile
    options = {"xla_cpu_use_fusion_emitters": True}
    with pytest.MonkeyPatch.context() as patch:
        if "fusion_emitters" in os.environ["XLA_FLAGS"]:
            patch.setattr(
                jax.stages.Lowered, "compile", lambda self: compiled(self, compiler_options=options)
            )
        yield
