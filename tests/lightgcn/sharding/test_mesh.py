"""Tables, training and runs on meshes of eight devices that one processor pretends to have."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from lightgcn_jax import fit
from lightgcn_jax.errors import InputError
from lightgcn_jax.models import GfCf
from lightgcn_jax.settings import from_flat
from lightgcn_jax.sharding import mesh_of
from tests.eight_devices import found_by

# Sums in another order, after about 20 steps of Adam.
CLOSE = 1e-5

on_eight_devices = functools.partial(found_by, "tests.lightgcn.sharding.on_eight_devices")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mesh")
    names = "applications", "rows", "blocks", "lightgcn", "program", "checkpoints"
    # The last one takes the kernels from what would come after it.
    return on_eight_devices(folder, *names, "without kernels")


def test_rows_in_shares_are_those_of_the_table(found):
    assert len(found["rows"]) == 6
    assert not any(found["rows"].values())


def test_an_application_and_its_derivative_are_those_of_the_dense_matrix(found):
    errors = found["applications"]
    assert 1e-4 < errors.pop("bfloat16 on the wire") < 3e-2
    assert len(errors) == 4
    assert all(error < 1e-5 for error in errors.values()), errors


@pytest.mark.parametrize("kernel", ["native", "segment"])
def test_a_rectangular_matrix_in_blocks_is_that_of_one_device(kernel, found):
    """Neither side divides by eight; the leading singular vectors stand apart from the rest."""
    got = dict(found["blocks"][kernel])
    assert got.pop("exchange") == "needed"
    assert got.pop("whole") == []
    # By how far a span turns goes by how far the next singular value is.
    assert got.pop("span") < 1e-4
    assert got.keys() == {"product", "transpose", "values"}
    assert all(error < CLOSE for error in got.values()), got


def test_auto_takes_segment_sums_on_a_mesh_where_no_kernels_run(found):
    assert found["without kernels"] == ["segment", "SegmentStorage"]


def test_training_is_that_of_one_device(found):
    [got] = found["lightgcn"].values()
    assert got["users"] < CLOSE
    assert got["items"] < CLOSE
    assert got["same_figures"]


@pytest.mark.slow
def test_a_ranking_is_that_of_one_device(tmp_path):
    """Ties and what was seen too, by the kernels and by XLA's operations."""
    different = on_eight_devices(tmp_path, "rankings")["rankings"]
    assert len(different) == 12
    assert not any(different.values()), different


def test_no_device_holds_a_whole_table_and_what_travels_is_what_was_planned(found):
    program = found["program"]
    assert program["exchange"] == "needed"
    assert program["whole_tables"] == []
    assert program["callbacks"] == 0
    assert program["bytes_in_program"] == program["bytes_planned"] > 0


def test_a_plan_describes_the_arrays_and_the_traffic_of_the_step(found):
    program = found["program"]
    assert program["described"] > 15
    assert program["described_otherwise"] == []
    assert program["received"]["known"]
    planned, kinds = program["received_planned"], program["received"]["kinds"]
    assert program["received"]["exchanged"] == planned["all-to-all"]
    # Where users, positives and negatives are joined, parts of a small batch change places.
    rows_of_batch = (2 * 256 + 16) * 8 * 4
    assert 0 <= sum(kinds.values()) - sum(planned.values()) < 4 * rows_of_batch
    assert kinds.keys() <= {"all-to-all", "all-reduce", "all-gather", "collective-permute"}


def test_checkpoints_of_a_mesh_are_read_on_any_other_and_damage_is_told(found):
    found = dict(found["checkpoints"])
    assert found.pop("whole") is None
    assert found.pop("names") == ["step-000000000000", "step-000000000001"]
    assert "['alphas'] float32[5], got ['alphas'] float32[4]" in found.pop("others")
    assert found.pop("fallen back to") == {"at": 0}
    [said] = found.pop("said")
    assert "damaged checkpoint passed over (shards/00004.users/c/0/1/0 has other bytes" in said
    assert len(found) == 6
    assert all(found.values()), found


@pytest.mark.slow
def test_runs_go_on_on_any_other_mesh_and_the_command_takes_one(tmp_path):
    found = on_eight_devices(tmp_path, "gone on", "command")
    assert found["gone on"].keys() == {"None", "data=2,model=2"}
    assert all(error < CLOSE for error in found["gone on"].values()), found["gone on"]
    command = found["command"]
    assert command["code"] == 0
    assert command["tells"]
    assert command["mesh"] == "data=1,model=8"
    assert command["exchange"] in ("gather", "needed")
    assert 1 <= command["edges_most_over_mean"] < 1.2


@pytest.mark.slow
def test_every_model_on_every_mesh_is_that_of_one_device(tmp_path):
    every = on_eight_devices(tmp_path, "every model")["every model"]
    assert len(every) == 8
    for model, meshes in every.items():
        assert len(meshes) == 3
        for mesh, got in meshes.items():
            assert got["users"] < CLOSE, (model, mesh, got)
            assert got["items"] < CLOSE, (model, mesh, got)
            assert got["same_figures"], (model, mesh)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ("model=3", "expected a number of devices that divides the 1 there are, got 1 × 3 = 3"),
        ("tensor=2", "expected auto or for instance data=2,model=4"),
        ("model=0", "whole numbers from 1 on, got 'model=0'"),
        ("model=1,model=1", "expected auto or for instance"),
        ("", "expected auto or for instance"),
        (8, "expected auto or for instance"),
    ],
)
def test_other_meshes_are_refused(wanted, message):
    with pytest.raises(InputError, match=message):
        mesh_of(wanted)


def test_one_device_is_no_mesh():
    assert mesh_of(None) is None
    assert mesh_of("auto") is None
    assert mesh_of("data=1,model=1") is None


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model": "gnn", "aggregate": "max"}, "mesh: expected a model that reads an operator"),
        ({"edge_dropout": 0.1}, "edge_dropout: expected 0 on a mesh"),
        ({"backend": "bucketed"}, "backend: expected auto, native or segment on a mesh"),
    ],
)
def test_what_cannot_be_shared_out_is_refused(small_split, tmp_path, settings, message):
    """A mesh of the one device that is here is shared out over as any other."""
    mesh = Mesh(np.array(jax.devices()[:1]).reshape(1, 1), ("data", "model"))
    with pytest.raises(InputError, match=message):
        fit(small_split, from_flat({"dim": 4} | settings), mesh=mesh, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_closed_forms_take_no_mesh(small_split):
    with pytest.raises(InputError, match="mesh: expected a model that is trained"):
        fit(small_split, model=GfCf(), mesh="auto")
