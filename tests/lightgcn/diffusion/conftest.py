import pytest

from lightgcn_jax.diffusion import obstacles
from lightgcn_jax.diffusion.native.library import limit_instructions

RUNNABLE = sorted(name for name, obstacle in obstacles("cpu").items() if obstacle is None)


@pytest.fixture(scope="session", params=RUNNABLE)
def backend(request):
    """Every storage that runs on the CPU."""
    return request.param


@pytest.fixture(params=["baseline", "AVX2", "AVX-512"])
def instructions(request):
    """One instruction set after another, where the processor has it."""
    used = limit_instructions(request.param)
    if used != request.param:
        pytest.skip(f"needs a processor with {request.param}")
    yield request.param
    limit_instructions()
