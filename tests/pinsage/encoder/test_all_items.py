"""Vectors of all items: chunks, files, resuming after a kill."""

import dataclasses
import json

import jax
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from pinsage_jax.encoder.all_items import embed_all
from pinsage_jax.encoder.pinsage import STRUCTURE, init_params, make_model
from tests.pinsage.worlds import ITEMS, PLAIN, STRUCTURED, random_table, structured_features

CONFIG = dataclasses.replace(PLAIN, dim=6, word_dim=4, structure=3)
MODEL = make_model(STRUCTURED, CONFIG)
PARAMS = init_params(jax.random.key(5), MODEL)
FEATURES, TABLE = structured_features(), random_table()


class Killed(Exception):
    pass


def embed(out=None, chunk=16, params=PARAMS, advanced=None):
    return embed_all(MODEL, params, FEATURES, TABLE, chunk=chunk, out=out, advanced=advanced)


def test_chunks_change_nothing():
    whole, parts = embed(chunk=ITEMS), embed(chunk=16)
    assert [one.shape for one in (*parts.layers, parts.vectors)] == [
        (ITEMS, width) for width in (6, 6, 9)
    ]
    for one, two in zip(
        (*whole.layers, whole.vectors), (*parts.layers, parts.vectors), strict=True
    ):
        np.testing.assert_allclose(one, two, atol=1e-6)


def test_vectors_alone_are_those_of_all_layers(tmp_path):
    for out in (None, tmp_path / "vectors"):
        found = embed_all(MODEL, PARAMS, FEATURES, TABLE, chunk=16, out=out, vectors_alone=True)
        assert found.layers == ()
        np.testing.assert_array_equal(found.vectors, embed(out).vectors)


def test_vectors_end_with_the_structure():
    own = PARAMS["structure_gain"] * FEATURES[STRUCTURE]
    np.testing.assert_allclose(embed().vectors[:, 6:], own, rtol=1e-6)


@pytest.mark.parametrize("killed_after", [1, 3, 4, 8])
def test_a_killed_run_goes_on_where_it_was(tmp_path, killed_after):
    """Three chunks a layer, three layers: killed within a layer, at its end, in the last one."""
    shares = []

    def kill(share):
        shares.append(share)
        if len(shares) == killed_after:
            raise Killed

    with pytest.raises(Killed):
        embed(tmp_path / "vectors", advanced=kill)
    again = []
    resumed = embed(tmp_path / "vectors", advanced=again.append)
    assert len(again) == 9 - killed_after
    assert again[-1] == 1
    np.testing.assert_array_equal(resumed.vectors, embed().vectors)
    stored = np.load(tmp_path / "vectors" / "layer-2.npy", mmap_mode="r", allow_pickle=False)
    np.testing.assert_array_equal(stored, resumed.vectors)


def test_a_finished_folder_is_read(tmp_path):
    embed(tmp_path)
    calls = []
    read = embed(tmp_path, advanced=calls.append)
    assert not calls
    np.testing.assert_array_equal(read.vectors, embed().vectors)


def test_a_folder_of_other_vectors_is_refused(tmp_path):
    embed(tmp_path)
    other = jax.tree.map(lambda leaf: leaf + 1, PARAMS)
    with pytest.raises(InputError, match="holds the vectors of another model, other parameters"):
        embed(tmp_path, params=other)


@pytest.mark.parametrize("changes", [{"pooling": "mean"}, {"unit_length": True}])
def test_a_folder_of_another_model_s_vectors_is_refused(tmp_path, changes):
    """The same parameters give other vectors."""
    embed(tmp_path)
    other = make_model(STRUCTURED, dataclasses.replace(CONFIG, **changes))
    with pytest.raises(InputError, match="holds the vectors of another model"):
        embed_all(other, PARAMS, FEATURES, TABLE, chunk=16, out=tmp_path)


def test_a_folder_of_exchanged_inputs_is_refused(tmp_path):
    """The arrays are the same, what they are is not."""
    embed(tmp_path)
    names = {"map_looks": "map_log_degree", "map_log_degree": "map_looks"}
    other = {names.get(name, name): leaf for name, leaf in PARAMS.items()}
    with pytest.raises(InputError, match="holds the vectors of another model"):
        embed(tmp_path, params=other)


def test_a_folder_of_another_structure_is_refused(tmp_path):
    embed(tmp_path)
    other = FEATURES | {STRUCTURE: FEATURES[STRUCTURE] + np.float32(1)}
    with pytest.raises(InputError, match="holds the vectors of another model"):
        embed_all(MODEL, PARAMS, other, TABLE, chunk=16, out=tmp_path)


def test_what_a_kill_leaves_before_the_first_progress_stops_nothing(tmp_path):
    (tmp_path / ".progress.json.0123abcd.tmp").write_text("{")
    np.testing.assert_array_equal(embed(tmp_path).vectors, embed(None).vectors)


def test_a_folder_with_something_else_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="expected a new or empty folder"):
        embed(tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_a_layer_of_another_shape_is_refused(tmp_path):
    embed(tmp_path)
    np.save(tmp_path / "layer-1.npy", np.zeros((3, 6), np.float32))
    progress = json.loads((tmp_path / "progress.json").read_text())
    (tmp_path / "progress.json").write_text(json.dumps(progress | {"rows": [ITEMS, 16, 0]}))
    with pytest.raises(InputError, match=r"layer-1.npy: expected float32\[40, 6\]"):
        embed(tmp_path)
