"""Arrays of a run that nothing can be ranked by: whoever reads the run names the file."""

import numpy as np
import pytest
import safetensors.numpy

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import MLP, Filter, GfCf, ItemCf, Spectral
from lightgcn_jax.runs import compare_runs, evaluate_run, fit, resume
from lightgcn_jax.serving import Recommender, export
from lightgcn_jax.settings import ClosedFormConfig
from lightgcn_jax.settings.names import replaced
from tests.unlisted import without_sums

CLOSED = {
    "filter": Filter(low_pass_rank=6),
    "gfcf": GfCf(singular_vectors=6),
    "spectral": Spectral(dim=6),
    "itemcf": ItemCf(neighbours=5),
}


@pytest.fixture(scope="module")
def runs(small_split, small_config, tmp_path_factory):
    """A run of each kind, by name, whose files may be altered."""
    folder = tmp_path_factory.mktemp("arrays")
    inner = replaced(small_config, {"epochs": 1, "evaluate_every": 1})
    configs = {name: ClosedFormConfig(model=model, ks=(5,)) for name, model in CLOSED.items()}
    configs |= {"inner": inner, "mlp": replaced(inner, {"score": "mlp", "hidden": 4})}
    assert isinstance(configs["mlp"].score, MLP)
    for name, config in configs.items():
        fit(small_split, config, out=folder / "kept" / name)
        without_sums(folder / "kept" / name, folder / name)
    return folder


def with_value(value):
    def changed(array):
        array = array.copy()
        array.reshape(-1)[array.size // 2] = value
        return array

    return changed


def transposed(array):
    return np.ascontiguousarray(array.T)


ODD = {
    "NaN": with_value(np.nan),
    "infinite": with_value(-np.inf),
    "narrower": lambda array: array[..., :-1].copy(),
    "shorter": lambda array: array[:-1],
    "flat": lambda array: array.reshape(-1),
    "a number": lambda array: array.reshape(-1)[0],
    "turned": transposed,
    "whole": lambda array: array.astype(np.int32),
    "doubles": lambda array: array.astype(np.float64),
}
TABLES = [("inner", "embeddings", name) for name in ("users", "items")]
STATES = [
    ("filter", "model", "vectors"),
    ("gfcf", "model", "vectors"),
    ("spectral", "model", "queries"),
    ("spectral", "model", "items"),
    ("itemcf", "model", "cosines"),
    ("mlp", "model", "params/output/kernel"),
]
# A lower rank is another model, and doubles are rounded: both are whole.
FINE = {(kind, odd) for kind in ("gfcf",) for odd in ("narrower", "doubles")}
FINE |= {(kind, "doubles") for kind in ("filter", "spectral", "itemcf")}
CASES = [
    (*state, odd)
    for state in TABLES + STATES
    for odd in ODD
    if (state[0], odd) not in FINE and not (state[0] == "mlp" and odd == "narrower")
]


def alter(run, file, name, change):
    """Change an array of a run; returns what puts it back."""
    path = run / f"{file}.safetensors"
    content = path.read_bytes()
    tensors = safetensors.numpy.load(content)
    assert name in tensors, sorted(tensors)
    tensors[name] = np.ascontiguousarray(change(tensors[name]))
    safetensors.numpy.save_file(tensors, path)
    return lambda: path.write_bytes(content)


@pytest.mark.parametrize(("kind", "file", "name", "odd"), CASES)
def test_arrays_that_cannot_be_ranked_by_are_refused(runs, kind, file, name, odd, tmp_path):
    run, other = runs / kind, runs / "kept" / "itemcf"
    put_back = alter(run, file, name, ODD[odd])
    try:
        for read in (
            lambda: evaluate_run(run, (5,)),
            lambda: compare_runs([run, other], k=5),
            lambda: compare_runs([other, run], k=5),
            lambda: Recommender.from_run(run),
            lambda: resume(run),
            lambda: export(run, tmp_path / "e.npz"),
        )[: None if kind in ("inner", "spectral") else -1]:
            with pytest.raises(InputError, match=rf"{file}\.safetensors: .*expected"):
                read()
    finally:
        put_back()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("value", [-1, 81, 2**31 - 1])
def test_neighbours_that_there_are_not_are_refused(runs, value, small_split):
    assert len(small_split.items) == 80  # 80 itself fills up
    put_back = alter(runs / "itemcf", "model", "neighbours", with_value(value))
    try:
        for read in (Recommender.from_run, lambda run: evaluate_run(run, (5,))):
            with pytest.raises(InputError, match=r"model.safetensors: neighbours: expected rows"):
                read(runs / "itemcf")
    finally:
        put_back()
    evaluate_run(runs / "itemcf", (5,))
