import pytest

from lightgcn_jax.diffusion import obstacles

RUNNABLE = sorted(name for name, obstacle in obstacles("cpu").items() if obstacle is None)


@pytest.fixture(scope="session", params=RUNNABLE)
def backend(request):
    """Every storage that runs on the CPU."""
    return request.param
