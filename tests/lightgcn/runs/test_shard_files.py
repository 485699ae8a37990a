"""Arrays that processes wrote together, as foreign files; one device is a mesh too."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.runs.shard_files import create, read, write_own
from lightgcn_jax.sharding.layout import Layout
from lightgcn_jax.sharding.mesh import DATA, MODEL

ARRAYS = {"table": np.arange(20, dtype=np.float32).reshape(5, 4), "count": np.float32([7, 8])}


@pytest.fixture
def folder(tmp_path):
    layout = Layout(3, 2, jax.make_mesh((1, 1), (DATA, MODEL)))
    arrays = layout.put(jax.tree.map(jnp.asarray, ARRAYS))
    create(tmp_path / "shards", arrays, layout)
    write_own(tmp_path / "shards", arrays, layout)
    return tmp_path / "shards"


def test_one_device_reads_what_was_written(folder):
    jax.tree.map(np.testing.assert_array_equal, read(folder, ARRAYS, None), ARRAYS)


@pytest.mark.parametrize(
    ("file", "field", "value"),
    [
        ("00001.users/zarr.json", "shape", [10**13, 4]),
        ("00001.items/zarr.json", "data_type", "int32"),
        ("00000/zarr.json", "shape", [10**13]),
        ("tree.json", "rows", {"users": 10**13, "items": 2}),
        ("tree.json", "rows", {"users": 2, "items": 3}),
    ],
)
def test_what_a_file_says_is_compared_before_anything_is_allocated(folder, file, field, value):
    said = json.loads((folder / file).read_text())
    assert field in said
    (folder / file).write_text(json.dumps(said | {field: value}))
    with pytest.raises(InputError, match=f"{folder.parent}: "):
        read(folder, ARRAYS, None)
