"""PinSAGE on meshes of eight devices that one processor pretends to have."""

import functools

import jax
import numpy as np
import pytest
from jax.sharding import Mesh

from lightgcn_jax.errors import InputError
from pinsage_jax.config import PinSageConfig
from pinsage_jax.training.division import check_mesh, division_of, preparing_mesh
from tests.eight_devices import found_by

# Sums in another order, after about 20 steps of Adam.
CLOSE = 1e-5

on_eight_devices = functools.partial(found_by, "tests.pinsage.training.on_eight_devices")


@pytest.fixture(scope="module")
def found(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mesh")
    return on_eight_devices(folder, "default", "preparation", "all items", "program")


def test_twenty_steps_are_those_of_one_device(found):
    assert all(np.max(errors) < CLOSE for errors in found["default"].values())


def test_structure_and_pools_of_a_shared_graph_are_those_of_one_device(found):
    got = found["preparation"]
    # Vectors of close singular values turn by the rounding of sums.
    assert 0 < got["structure"] < 1e-3 * got["largest"]
    assert got["pooled"] > 100
    # PageRank's sums run in another order, and equals may part.
    assert got["other_pooled"] < 0.02 * got["pooled"]


def test_vectors_of_all_items_are_those_of_one_device(found):
    assert all(error < CLOSE for error in found["all items"].values())


def test_no_device_holds_a_table_and_only_what_is_planned_travels(found):
    program = found["program"]
    assert not program["whole_tables"]
    assert not program["callbacks"]
    assert program["received"].keys() == program["planned"].keys()
    for kind, size in program["planned"].items():
        # A few numbers beside gradients: the loss, counts of nodes, turns of exchanges.
        assert program["received"][kind] == pytest.approx(size, rel=0.05), kind


def test_tables_lie_whole_where_half_of_a_device_holds_them(monkeypatch):
    """Of one device alone nothing is divided, whatever the size."""
    assert division_of(None, PinSageConfig(), 2**60).mesh is None
    mesh = Mesh(np.array(jax.devices()).reshape(1, 1), ("data", "model"))
    division = division_of(mesh, PinSageConfig(), 0)
    assert division.count == 1
    assert not division.shares_tables
    monkeypatch.setattr("pinsage_jax.training.division.mesh_of", lambda wanted: wanted)
    monkeypatch.setattr("pinsage_jax.training.division.device_memory", lambda: 1000)
    count = jax.device_count()
    assert division_of("auto", PinSageConfig(), 500).mesh == f"data={count}"
    assert division_of("auto", PinSageConfig(), 501).mesh == f"model={count}"
    monkeypatch.setattr("pinsage_jax.training.division.mesh_of", lambda _: mesh)
    assert preparing_mesh("auto", 500) is None
    assert preparing_mesh("auto", 501).shape == {"data": 1, "model": 1}


def test_tables_of_the_host_are_refused():
    mesh = Mesh(np.array(jax.devices()).reshape(1, 1), ("data", "model"))
    with pytest.raises(InputError, match="tables: expected device on a mesh"):
        check_mesh(mesh, PinSageConfig(tables="host"))


@pytest.mark.slow
def test_every_kind_of_run_on_every_mesh(tmp_path):
    for name, by_mesh in on_eight_devices(tmp_path, "every case")["every case"].items():
        assert set(by_mesh) == {"model=8", "data=2,model=4", "data=8"}
        for mesh, errors in by_mesh.items():
            assert np.max(errors) < CLOSE, (name, mesh)


@pytest.mark.slow
def test_a_run_goes_on_on_any_mesh(tmp_path):
    for mesh, error in on_eight_devices(tmp_path, "gone on")["gone on"].items():
        assert error < CLOSE, mesh


@pytest.mark.slow
def test_the_command_trains_on_all_devices_and_refuses_what_does_not_fit(tmp_path):
    found = on_eight_devices(tmp_path, "command")["command"]
    assert found["code"] == 0
    assert found["mesh"] == "data=8,model=1"
    assert "8 devices, each with its rows of a batch" in found["said"]
    assert found["refused"] == [2, 2]
    assert "mesh: expected a number of devices that divides the 8" in found["said"]
    assert "tables: expected device on a mesh" in found["said"]
    assert not found["left"]
