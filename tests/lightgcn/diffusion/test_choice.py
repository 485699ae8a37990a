from typing import get_args

import jax
import pytest

from lightgcn_jax.diffusion import (
    PLATFORMS,
    STORAGES,
    choice,
    choose_backend,
    choose_ordering,
    diffusion_operator,
    obstacles,
)
from lightgcn_jax.diffusion.choice import OrderingChoice
from lightgcn_jax.errors import InputError
from lightgcn_jax.graph import Ordering
from tests.lightgcn.worlds import graph_of, random_pairs

# The extension is optional.
ON_CPU = "native" if obstacles("cpu")["native"] is None else "csr"
every_platform = pytest.mark.parametrize("platform", PLATFORMS)


def is_sentence(text):
    return len(text.split()) >= 4 and "\n" not in text


@every_platform
def test_every_storage_has_an_obstacle_or_none(platform):
    found = obstacles(platform)
    assert list(found) == list(STORAGES)
    assert all(reason is None or is_sentence(reason) for reason in found.values())
    assert found["segment"] is None


@every_platform
def test_auto_takes_a_storage_that_the_platform_has_and_says_why(platform):
    name, reason = choose_backend("auto", platform)
    assert obstacles(platform)[name] is None
    assert is_sentence(reason)
    assert platform in reason.lower()


def test_the_platform_is_an_argument_and_by_default_that_of_jax():
    assert choose_backend("auto", "cpu").name == ON_CPU
    assert choose_backend("auto", "tpu").name != "csr"
    assert choose_backend() == choose_backend("auto", jax.default_backend())


@every_platform
@pytest.mark.parametrize("name", sorted(STORAGES))
def test_a_storage_by_name_is_taken_or_refused_with_the_obstacle(platform, name):
    obstacle = obstacles(platform)[name]
    if obstacle is None:
        assert choose_backend(name, platform).name == name
    else:
        with pytest.raises(
            InputError, match=rf"backend: {name} can't run on {platform}: "
        ) as error:
            choose_backend(name, platform)
        assert obstacle in str(error.value)
        with pytest.raises(InputError, match=f"can't run on {platform}"):
            diffusion_operator(graph_of(*random_pairs(0)), backend=name, platform=platform)


def test_csr_on_a_gpu_says_which_setting_is_off():
    assert not jax.config.jax_bcoo_cusparse_lowering
    assert "set jax_bcoo_cusparse_lowering before the first program" in obstacles("gpu")["csr"]


def test_csr_with_cusparse_on_is_judged_by_what_is_lowered():
    # Here jaxlib has no CUDA: the setting alone brings no kernel, and saying so must not fail.
    try:
        jax.config.update("jax_bcoo_cusparse_lowering", True)
        obstacle = obstacles("gpu")["csr"]
    finally:
        jax.config.update("jax_bcoo_cusparse_lowering", False)
    assert obstacle is None or "no native CSR product for gpu" in obstacle


def test_csr_on_a_tpu_has_no_kernel():
    assert f"JAX {jax.__version__} has no native CSR product for tpu" == obstacles("tpu")["csr"]


def test_a_jax_without_experimental_sparse_has_the_other_storages(monkeypatch):
    monkeypatch.setattr("lightgcn_jax.diffusion.jax_sparse.sparse", None)
    found = obstacles("cpu")
    assert found["csr"] == found["bcoo"] == "this JAX has no jax.experimental.sparse"
    assert choose_backend("auto", "cpu").name not in ("csr", "bcoo")


def test_the_annotation_lists_what_there_is():
    assert set(choice.Backend.__args__) == {"auto", *STORAGES}


def test_unknown_names_are_refused():
    with pytest.raises(InputError, match=r"backend: expected auto or one of .*'csr'.*got 'dense'"):
        choose_backend("dense")
    for call in (obstacles, lambda name: choose_backend("auto", name)):
        with pytest.raises(InputError, match=r"platform: expected one of .*'tpu'.*got 'cuda'"):
            call("cuda")
    with pytest.raises(InputError, match="got 'cuda'"):
        choose_backend("segment", "cuda")


def test_auto_looks_at_the_size_where_compiling_decides():
    assert choose_backend("auto", "tpu", 10**6).name == "bucketed"
    assert choose_backend("auto", "tpu", 100).name == "segment"
    # A scatter's sums are not the same in every run of a GPU, however small.
    assert choose_backend("auto", "gpu", 100).name == "bucketed"
    assert choose_backend("auto", "cpu", 100).name == ON_CPU


def test_an_ordering_is_chosen_where_it_was_measured():
    assert choose_ordering("auto", 10**6, platform="cpu").name == "co-clustering"
    for rest in ({"platform": "gpu"}, {"platform": "cpu", "backend": "bucketed"}):
        assert choose_ordering("auto", 10**6, **rest).name == "none"
    few = choose_ordering("auto", 1000, platform="cpu")
    assert few.name == "none"
    assert "1,000 edges" in few.reason
    assert choose_ordering("rcm", 10, platform="gpu").name == "rcm"
    assert set(get_args(OrderingChoice)) == {"auto", *get_args(Ordering)}


@pytest.mark.parametrize("platform", ["gpu", "tpu"])
def test_who_asks_for_what_was_never_timed_is_told(platform):
    reason = choose_backend("pallas", platform).reason
    assert reason == "asked for; experimental, never timed on hardware"
    assert choose_backend("segment", platform).reason == "asked for"
    assert choose_backend("auto", platform).name != "pallas"
