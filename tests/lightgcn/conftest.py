import jax
import pytest

from lightgcn_jax.data import generate_world, ratio_split
from lightgcn_jax.settings import from_flat


@pytest.fixture
def x64():
    with jax.enable_x64(True):
        yield


@pytest.fixture(scope="session")
def small_split():
    world = generate_world(users=120, items=80, mean_degree=12, groups=4, seed=1)
    # A run keeps the rows of a split that stands in canonical order.
    return ratio_split(world.interactions, seed=0).in_canonical_order()


@pytest.fixture(scope="session")
def small_config():
    return from_flat({
        "dim": 8, "layers": 2, "epochs": 6, "batch_size": 256, "negatives": 16, "ks": (5, 10),
        "evaluate_every": 2, "patience": 0, "learning_rate": 0.02, "checkpoint_seconds": 0.0,
    })  # fmt: skip
