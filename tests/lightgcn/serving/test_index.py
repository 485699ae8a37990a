"""An index against a stable sort of all products."""

import functools
import re

import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from lightgcn_jax import verify
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.ranking import rank_block
from lightgcn_jax.serving import Index
from lightgcn_jax.serving import index as index_module

DIM = 6


def made(count, seed=0):
    rng = np.random.default_rng(seed)
    centres = rng.normal(size=(12, DIM))
    vectors = centres[rng.integers(12, size=count)] + 0.3 * rng.normal(size=(count, DIM))
    return (vectors * np.exp(0.5 * rng.normal(size=(count, 1)))).astype(np.float32)


IDS = [f"i{row}" for row in range(300)]
VECTORS, QUERIES = made(300), made(40, seed=1)


class Oracle(dict):
    """Vectors by id in the order of their first coming, searched by sorting everything."""

    def search(self, queries, k, metric):
        ids, found = list(self), []
        there = [one for one in ids if self[one] is not None]
        table = np.array([self[one] for one in there], float)
        if metric == "cosine":
            table /= np.linalg.norm(table, axis=1, keepdims=True)
            queries = queries / np.linalg.norm(queries, axis=1, keepdims=True)
        for scores in queries.astype(float) @ table.T:
            best = np.argsort(-scores, kind="stable")[:k]
            found.append(([there[row] for row in best], scores[best]))
        return found


def check(found, expected):
    for one, (ids, scores) in zip(found, expected, strict=True):
        assert one.ids == ids
        np.testing.assert_allclose(one.scores, scores, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("metric", ["inner", "cosine"])
@pytest.mark.parametrize("target", [None, 1.0])
def test_what_comes_and_goes_is_found_as_by_sorting(metric, target):
    """With a recall of 1 all lists are read, so that both ways find the same."""
    index = Index.build(IDS, VECTORS, metric=metric, target_recall=target, seed=3)
    oracle = Oracle(zip(IDS, VECTORS, strict=True))
    if target:
        index._lists.read_lists(index._lists.num_lists)
    check(index.search(QUERIES, 7), oracle.search(QUERIES, 7, metric))
    new = made(5, seed=2)
    ids = ["i7", "new-a", "i250", "new-b", "new-c"]
    index.upsert(ids, new)
    oracle |= dict(zip(ids, new, strict=True))
    check(index.search(QUERIES[:3], 7), oracle.search(QUERIES[:3], 7, metric))
    index.delete(["i3", "new-a", *IDS[100:200]])
    for one in ["i3", "new-a", *IDS[100:200]]:
        oracle[one] = None
    assert len(index) == 303 - 102
    check(index.search(QUERIES, 7), oracle.search(QUERIES, 7, metric))
    index.upsert(["i3"], new[:1])
    oracle["i3"] = new[0]
    check(index.search(QUERIES[:3], 9), oracle.search(QUERIES[:3], 9, metric))


@pytest.mark.parametrize("metric", ["inner", "cosine"])
def test_what_stays_on_the_disk_is_found_block_by_block(metric, tmp_path, monkeypatch):
    """Three blocks, the last one not full; equal vectors stand in different blocks."""
    vectors = VECTORS.copy()
    vectors[250] = vectors[7]
    index = Index.load(Index.build(IDS, vectors, metric=metric).save(tmp_path / "index"))
    monkeypatch.setattr(index_module, "BLOCK_ROWS", 128)
    in_blocks = functools.partial(index_module.best_in_blocks, rows_at_once=128)
    monkeypatch.setattr(index_module, "best_in_blocks", in_blocks)
    index.delete(IDS[:5])
    oracle = Oracle(zip(IDS, vectors, strict=True)) | dict.fromkeys(IDS[:5])
    check(index.search(QUERIES, 12), Oracle(oracle).search(QUERIES, 12, metric))
    assert len(index.search(QUERIES[:1], 290)[0].ids) == 290  # more than a block holds


def test_vectors_of_a_file_are_not_copied(tmp_path):
    np.save(tmp_path / "vectors.npy", VECTORS)
    mapped = np.load(tmp_path / "vectors.npy", mmap_mode="r")
    index = Index.build(IDS, mapped)
    assert isinstance(index._vectors, np.memmap)
    assert np.shares_memory(index._vectors, mapped)
    index.upsert(["i7"], VECTORS[:1])
    assert np.array_equal(mapped, VECTORS)


@pytest.mark.parametrize("target", [None, 0.9])
def test_what_is_saved_is_opened_the_same(target, tmp_path):
    index = Index.build(IDS, VECTORS, target_recall=target)
    index.delete(IDS[:10])
    path = index.save(tmp_path / "index")
    again = Index.load(path)
    assert isinstance(again._vectors, np.memmap)
    assert repr(again) == repr(index)
    for one, other in zip(index.search(QUERIES, 5), again.search(QUERIES, 5), strict=True):
        assert one.ids == other.ids
    # It changes in memory, and takes the place of what it was read from.
    again.upsert(["new"], 10 * QUERIES[:1])
    assert again.save(path) == path
    assert Index.load(path).search(QUERIES[:1], 1)[0].ids == ["new"]
    assert [one.name for one in tmp_path.iterdir()] == ["index"]
    assert verify(path).is_whole
    (path / "vectors.npy").write_bytes(b"")
    assert verify(path).damaged == {"vectors.npy": "changed"}


def test_a_target_recall_is_met_and_said():
    vectors, queries = made(4000), made(100, seed=5)
    ids = np.arange(4000)
    few = Index.build(ids, vectors, target_recall=0.3, queries=queries, k=10)
    many = Index.build(ids, vectors, target_recall=0.97, queries=queries, k=10)
    exact = [set(one.ids) for one in Index.build(ids, vectors).search(queries, 10)]
    for built, target in ((few, 0.3), (many, 0.97)):
        pairs = zip(exact, built.search(queries, 10), strict=True)
        share = np.mean([len(right & {*one.ids}) / 10 for right, one in pairs])
        assert built.measured == (pytest.approx(share), 10, 100)
        assert built.measured.recall >= target
        assert f"recall@10 {built.measured.recall:.4f} of the exact search" in repr(built)
    assert few._lists.probes < many._lists.probes < many._lists.num_lists


def test_a_few_more_vectors_or_another_k_compile_nothing():
    index = Index.build(IDS, VECTORS)
    index.search(QUERIES[:1], 3)
    before = rank_block._cache_size()
    for place in range(4):
        index.upsert([f"more-{place}"], QUERIES[place : place + 1])
        index.delete([IDS[place]])
        index.search(QUERIES[:1], 3 + place)
    assert rank_block._cache_size() == before


def test_a_tpu_searches_by_its_own_maximum(monkeypatch):
    monkeypatch.setattr(index_module, "_on_tpu", lambda: True)
    found = Index.build(IDS, VECTORS, target_recall=0.9)
    found.delete(IDS[::2])
    oracle = Oracle(zip(IDS[1::2], VECTORS[1::2], strict=True))
    check(found.search(QUERIES, 5), oracle.search(QUERIES, 5, "inner"))
    assert found.measured.recall == 1
    none = index_module.approximate_top_k(
        QUERIES, jnp.asarray(VECTORS), np.zeros(300, bool), 2, 0.9
    )
    assert (none.items == -1).all()


def test_what_does_not_fit_is_refused(tmp_path):
    built = Index.build(IDS, VECTORS)
    refusals = [
        (lambda: Index.build(IDS, VECTORS[:9]), r"vectors: expected float32\[300, D\]"),
        (lambda: Index.build(["a", "a"], VECTORS[:2]), "'a' stands twice"),
        (lambda: Index.build(IDS, VECTORS, metric="l2"), "metric: expected one of"),
        (
            lambda: Index.build(IDS, VECTORS, target_recall=2.0),
            "target_recall: expected None or a share",
        ),
        (lambda: Index.build([], VECTORS[:0]), "ids: expected at least one"),
        (lambda: built.search(QUERIES[:, :2]), r"queries: expected float32\[n, 6\]"),
        (lambda: built.upsert(["x"], np.full((1, DIM), np.nan)), "expected finite numbers"),
        (lambda: built.delete(["nobody"]), "ids: unknown vector ids: 'nobody'"),
        (lambda: built.save(tmp_path), "expected a new folder or one of an index"),
        (lambda: Index.load(tmp_path / "none"), "expected this file, it is missing"),
    ]
    (tmp_path / "other").write_text("")
    for refused, message in refusals:
        with pytest.raises(InputError, match=message):
            refused()
    built.delete(["i1"])
    with pytest.raises(InputError, match="ids: deleted before: 'i1'"):
        built.delete(["i2", "i1"])
    assert len(built) == 299


LISTED = {
    "centres": lambda arrays: arrays["centres"][:, :2].copy(),
    "lengths": lambda arrays: arrays["lengths"] + np.int64(2**60),
    "rows": lambda arrays: arrays["rows"] + 1,
    "probes": lambda arrays: arrays["probes"] + 2**40,
}


@pytest.mark.parametrize("name", LISTED)
@pytest.mark.parametrize("of", ["shape", "kind"])
def test_lists_of_another_make_are_refused_before_faiss_sees_them(name, of, tmp_path):
    path = Index.build(IDS, VECTORS, target_recall=0.9).save(tmp_path / "index")
    (path / "sums.json").unlink()
    arrays = safetensors.numpy.load_file(path / "lists.safetensors")
    arrays[name] = LISTED[name](arrays) if of == "shape" else arrays[name].astype(np.int8)
    safetensors.numpy.save_file(arrays, path / "lists.safetensors")
    with pytest.raises(InputError, match=rf"lists\.safetensors: {name}: expected"):
        Index.load(path)


def test_a_damaged_index_is_refused_by_the_files_name(tmp_path):
    path = Index.build(IDS, VECTORS, target_recall=0.9).save(tmp_path / "index")
    for file in sorted(path.iterdir()):
        content = bytearray(file.read_bytes())
        content[len(content) // 2] ^= 1
        kept = file.read_bytes()
        file.write_bytes(content)
        with pytest.raises(InputError, match=re.escape(str(path))):
            Index.load(path)
        file.write_bytes(kept)
    Index.load(path)
    (path / "sums.json").unlink()
    np.save(path / "vectors.npy", np.where(VECTORS[3, 2] == VECTORS, np.nan, VECTORS))
    with pytest.raises(InputError, match=r"vectors\.npy: expected finite numbers"):
        Index.load(path)
    (path / "vectors.npy").write_bytes(b"")
    with pytest.raises(InputError, match=r"vectors\.npy: expected float32\[300, D\]"):
        Index.load(path)


def test_nothing_is_left_to_be_found():
    index = Index.build(IDS[:2], VECTORS[:2])
    index.delete(IDS[:2])
    assert [one.ids for one in index.search(QUERIES[:2])] == [[], []]
