"""Exports are read back with the libraries that others would use."""

import dataclasses
import errno
import importlib
import json

import jax
import numpy as np
import polars as pl
import pytest
import safetensors.numpy

from lightgcn_jax.data import IdMap
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.models.heads import MLP, HeadScorer
from lightgcn_jax.serving import EXPORT_SUFFIXES, Recommender, export
from lightgcn_jax.serving.export import export_parts
from lightgcn_jax.sums import verified
from tests.stopped import contents

# The package gives the function the name of its module.
exporting = importlib.import_module("lightgcn_jax.serving.export")
USER_IDS, ITEM_IDS = ["Zoë", "a b", "c"], [7, 2, 2**40]
USERS = np.array([[1, 0.5], [0, 1], [-1, 1]], np.float32)
ITEMS = np.array([[1, 0], [2, 0.25], [0, 3]], np.float32)


@pytest.fixture(scope="module")
def recommender() -> Recommender:
    ids = IdMap(pl.Series(USER_IDS)), IdMap(pl.Series(ITEM_IDS))
    return Recommender(*ids, InnerProduct(USERS, ITEMS), csr_rows([0], [1], 3))


def test_npz(recommender, tmp_path):
    with np.load(export(recommender, tmp_path / "e.npz"), allow_pickle=False) as stored:
        np.testing.assert_array_equal(stored["users"], USERS)
        np.testing.assert_array_equal(stored["items"], ITEMS)
        assert stored["users"].dtype == np.float32
        assert stored["user_ids"].tolist() == USER_IDS
        assert stored["item_ids"].dtype == np.int64
        assert stored["item_ids"].tolist() == ITEM_IDS


def test_safetensors(recommender, tmp_path):
    tensors = safetensors.numpy.load_file(export(recommender, tmp_path / "e.safetensors"))
    np.testing.assert_array_equal(tensors["users"], USERS)
    np.testing.assert_array_equal(tensors["items"], ITEMS)
    assert json.loads(tensors["user_ids"].tobytes()) == USER_IDS
    assert tensors["item_ids"].dtype == np.int64
    assert tensors["item_ids"].tolist() == ITEM_IDS


def test_parquet(recommender, tmp_path):
    frame = pl.read_parquet(export(recommender, str(tmp_path / "e.parquet")))
    assert frame.schema == {"kind": pl.String, "id": pl.String, "embedding": pl.List(pl.Float32)}
    assert frame["kind"].to_list() == ["user"] * 3 + ["item"] * 3
    assert frame["id"].to_list() == [*USER_IDS, *map(str, ITEM_IDS)]
    np.testing.assert_array_equal(frame["embedding"].to_list(), np.concatenate([USERS, ITEMS]))


def test_vectors_in_parts_are_the_table_and_go_on_after_a_kill(recommender, tmp_path, monkeypatch):
    monkeypatch.setattr(exporting, "ROWS_OF_A_PART", 2)
    out, about = tmp_path / "parts", {"run": "r"}
    assert export_parts(recommender, out, about) == 6
    assert [len(pl.read_parquet(one)) for one in sorted(out.glob("part-*"))] == [2, 1, 2, 1]
    whole = pl.read_parquet(export(recommender, tmp_path / "e.parquet"))
    assert pl.read_parquet(out / "part-*.parquet").equals(whole)
    assert set(verified(out).values()) == {"ok"}
    before = contents(out)
    # As a kill in the middle leaves it.
    manifest = json.loads((out / "parts.json").read_text())
    state = {name: one for name, one in manifest.items() if name != "rows"}
    (out / ".state.json").write_text(json.dumps(state))
    for name in ("parts.json", "sums.json", "part-00002.parquet"):
        (out / name).unlink()
    with pytest.raises(InputError, match="a table of other run was broken off here"):
        export_parts(recommender, out, {"run": "other"})
    assert export_parts(recommender, out, about) == 6
    assert contents(out) == before


def test_parquet_keeps_integers_where_all_ids_are(recommender, tmp_path):
    users = IdMap(pl.Series([3, 1, 2]))
    integers = Recommender(users, recommender.items, InnerProduct(USERS, ITEMS), recommender.seen)
    frame = pl.read_parquet(export(integers, tmp_path / "e.PARQUET"))
    assert frame["id"].to_list() == [3, 1, 2, *ITEM_IDS]


@pytest.mark.parametrize("name", ["e.csv", "e", "e.npz.gz"])
def test_other_suffixes_are_refused(recommender, tmp_path, name):
    with pytest.raises(InputError, match=r"\.npz, \.safetensors, \.parquet"):
        export(recommender, tmp_path / name)


def test_a_missing_folder_is_named(recommender, tmp_path):
    with pytest.raises(InputError, match=r"there is no .*nowhere"):
        export(recommender, tmp_path / "nowhere" / "e.npz")


@pytest.mark.parametrize("suffix", EXPORT_SUFFIXES)
def test_a_network_over_the_vectors_is_refused(recommender, tmp_path, suffix):
    """The inner products of its vectors are no scores: .0009 in place of .0187, for instance."""
    score = MLP(hidden=4)
    network = HeadScorer(USERS, ITEMS, score.init(jax.random.key(0), 2), score)
    scores = network.scores(np.arange(3)).T
    assert np.abs(scores - USERS @ ITEMS.T).max() > 0.1
    with pytest.raises(InputError, match="inner products of its embeddings, got the score MLP"):
        export(dataclasses.replace(recommender, scorer=network), tmp_path / f"e{suffix}")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("suffix", EXPORT_SUFFIXES)
def test_a_full_disk_leaves_the_old_file(recommender, tmp_path, suffix):
    resource = pytest.importorskip("resource")
    target = tmp_path / f"e{suffix}"
    export(recommender, target)
    before = target.read_bytes()
    rng = np.random.default_rng(0)
    large = Recommender(
        recommender.users,
        IdMap(pl.Series(range(2_000))),
        InnerProduct(rng.random((3, 32), np.float32), rng.random((2_000, 32), np.float32)),
        recommender.seen,
    )
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(OSError, match=f"e{suffix}") as caught:
            export(large, target)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    # The libraries behind two of the formats hide the number.
    assert caught.value.errno in (errno.EFBIG, errno.EIO)
    assert target.read_bytes() == before
    assert list(tmp_path.iterdir()) == [target]
