"""Named data sets: what is accepted, what is refused, and what a user is told."""

import dataclasses
import errno
import hashlib
import json
import os
import shutil
import threading
import zipfile
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lightgcn_jax.data import datasets
from lightgcn_jax.data.datasets import dataset_names, describe, fingerprint, load_dataset
from lightgcn_jax.data.ids import IdMap
from lightgcn_jax.data.interactions import TEST, TRAIN, Interactions
from lightgcn_jax.data.manifest import ENTRIES, Counts, DatasetEntry, Edition, FileSet, Source
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import locked

LOCAL = os.environ.get("GRAPHREC_DATA")
AT_HAND = ("gowalla", "lastfm", "ml-100k", "ml-latest-small", "hetrec-lastfm")

ids = st.one_of(
    st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=6),
    st.lists(st.text("a1é\t\n\\\r€𝄞 ", min_size=1, max_size=4), min_size=1, max_size=6),
)


@st.composite
def worlds(draw) -> tuple[list, list, list[int] | None]:
    users, items = draw(ids), draw(ids)
    edges = draw(st.integers(1, 12))
    pick = partial(st.lists, min_size=edges, max_size=edges)
    return (
        draw(pick(st.sampled_from(users))),
        draw(pick(st.sampled_from(items))),
        draw(st.none() | pick(st.integers(0, 2))),
    )


def interactions_of(users: list, items: list, parts: list[int] | None) -> Interactions:
    """Under any ids, those too that no file and no array may hold."""
    maps = IdMap.from_values(users), IdMap.from_values(items)
    rows = (known.rows(values) for known, values in zip(maps, (users, items), strict=True))
    codes = None if parts is None else np.array(parts, np.uint8)
    return Interactions(*maps, *rows, parts=codes)


def _slow_fingerprint(users: list, items: list, parts: list[int] | None) -> str:
    def text(value: object) -> bytes:
        plain = str(value).replace("\\", r"\\").replace("\t", r"\t")
        return plain.replace("\n", r"\n").replace("\r", r"\r").encode()

    names = ["-"] * len(users) if parts is None else parts
    lines = sorted({(text(u), text(i), p) for u, i, p in zip(users, items, names, strict=True)})
    words = {0: b"train", 1: b"valid", 2: b"test", "-": b"-"}
    return hashlib.sha256(
        b"".join(u + b"\t" + i + b"\t" + words[p] + b"\n" for u, i, p in lines)
    ).hexdigest()


@settings(deadline=None)
@given(worlds(), st.randoms(use_true_random=False))
def test_fingerprint_is_the_documented_one_in_any_order(world, random):
    users, items, parts = world
    expected = _slow_fingerprint(users, items, parts)
    assert fingerprint(interactions_of(users, items, parts)) == expected
    order = list(range(len(users)))
    random.shuffle(order)
    order += order[:2]  # a repeated pair counts once
    shuffled = interactions_of(
        [users[at] for at in order],
        [items[at] for at in order],
        None if parts is None else [parts[at] for at in order],
    )
    ratings = np.arange(len(order), dtype=np.float32)
    assert fingerprint(dataclasses.replace(shuffled, ratings=ratings)) == expected


@settings(deadline=None)
@given(worlds(), st.data())
def test_fingerprint_feels_every_change_of_a_pair(world, data):
    users, items, parts = world
    before = fingerprint(interactions_of(users, items, parts))
    at = data.draw(st.integers(0, len(users) - 1))
    other = "new" if isinstance(items[at], str) else next(n for n in range(99) if n not in items)
    changed = [*items[:at], other, *items[at + 1 :]]
    assert fingerprint(interactions_of(users, changed, parts)) != before
    longer = interactions_of(
        [*users, users[at]], [*items, other], None if parts is None else [*parts, 0]
    )
    assert fingerprint(longer) != before


def test_fingerprint_feels_the_part_and_keeps_fields_apart():
    def of(users, items, parts=None):
        return fingerprint(interactions_of(users, items, parts))

    assert of([1], [2], [TRAIN]) != of([1], [2], [TEST])
    assert of([1], [2], [TRAIN]) != of([1], [2])
    assert of(["a\tb"], ["c"]) != of(["a"], ["b\tc"])
    assert of([10, 9], [1, 2]) == of(["9", "10"], ["2", "1"])


def test_fingerprint_is_the_same_in_small_chunks(monkeypatch):
    world = load_dataset("synthetic")
    whole = fingerprint(world)
    monkeypatch.setattr(datasets, "_CHUNK", 999)
    assert fingerprint(world) == whole


@pytest.mark.parametrize("name", AT_HAND)
@pytest.mark.skipif(LOCAL is None, reason="GRAPHREC_DATA names no folder with the data sets")
def test_local_data_are_what_the_manifest_says(name, tmp_path):
    if not (Path(str(LOCAL)) / name).is_dir():
        pytest.skip(f"{name} is not in the folder that GRAPHREC_DATA names")
    raw = load_dataset(name, cache_dir=tmp_path, download=False, apply_threshold=False)
    assert not raw.has_duplicates
    assert fingerprint(raw) in [edition.fingerprint for edition in ENTRIES[name].editions]
    assert describe(name, cache_dir=tmp_path)["folder"] == str(Path(str(LOCAL)) / name)
    assert os.listdir(tmp_path) == []
    threshold = ENTRIES[name].min_rating
    if threshold is None:
        return
    liked = load_dataset(name, cache_dir=tmp_path, download=False)
    assert raw.ratings is not None
    assert liked.ratings is not None
    assert liked.ratings.min() >= threshold
    assert len(liked) == (raw.ratings >= threshold).sum()
    assert liked.report[-1].interactions_before == len(raw)


@pytest.mark.skipif(LOCAL is None, reason="GRAPHREC_DATA names no folder with the data sets")
def test_other_layout_of_the_same_data_passes(tmp_path):
    source = Path(str(LOCAL)) / "ml-100k" / "ml-100k.inter"
    if not source.is_file():
        pytest.skip("ml-100k.inter is not in the folder that GRAPHREC_DATA names")
    folder = tmp_path / "ml-100k"
    folder.mkdir()
    header, *lines = source.read_text().splitlines(keepends=True)
    assert header.startswith("user_id")
    (folder / "u.data").write_text("".join(reversed(lines)))
    loaded = load_dataset("ml-100k", data_dir=tmp_path, download=False, apply_threshold=False)
    assert len(loaded) == 100_000


def test_manifest_is_complete():
    for name in dataset_names():
        facts = json.loads(json.dumps(describe(name)))
        assert facts["name"] == name
        assert facts["description"]
        assert facts["licence"]
        if name == "synthetic":
            continue
        assert facts["homepage"].startswith("http")
        assert facts["editions"]
        kept = {file for source in ENTRIES[name].sources for file in source.kept}
        titles = {file for file, _ in ENTRIES[name].titles}
        assert any(kept - titles == set(layout.files) for layout in ENTRIES[name].file_sets)
        for edition in facts["editions"]:
            assert edition["fingerprint"] is None or len(edition["fingerprint"]) == 64


def test_synthetic_needs_no_files():
    assert len(load_dataset("synthetic", download=False)) > 39_000


def test_unknown_name_lists_the_known_ones():
    with pytest.raises(InputError, match="'gowala': expected one of synthetic, gowalla"):
        load_dataset("gowala")


def test_missing_data_say_which_files_go_where(tmp_path, monkeypatch):
    monkeypatch.delenv("GRAPHREC_DATA", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    with pytest.raises(InputError) as error:
        load_dataset("ml-1m", data_dir=tmp_path / "mine", download=False)
    message = str(error.value)
    assert str(tmp_path / "mine" / "ml-1m") in message
    assert str(tmp_path / "xdg" / "lightgcn-jax" / "ml-1m") in message
    assert "ratings.dat from https://files.grouplens.org/datasets/movielens/ml-1m.zip" in message
    assert "GRAPHREC_DATA" in message
    assert not (tmp_path / "xdg").exists()
    monkeypatch.setenv("XDG_CACHE_HOME", "")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    with pytest.raises(InputError, match=r"home/\.cache/lightgcn-jax/ml-1m"):
        load_dataset("ml-1m", download=False)


def test_without_a_home_folder_data_at_hand_are_found(monkeypatch, tmp_path):
    """In a container that runs as a user without an entry in /etc/passwd."""

    def homeless():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", homeless)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.delenv("GRAPHREC_DATA", raising=False)
    assert describe("gowalla")["folder"] is None
    with pytest.raises(InputError, match="gowalla: not found, and there is no home folder to keep"):
        load_dataset("gowalla")
    for file in ("train.txt", "test.txt"):
        (tmp_path / "gowalla").mkdir(exist_ok=True)
        (tmp_path / "gowalla" / file).write_text("0 1\n")
    assert describe("gowalla", data_dir=tmp_path)["folder"] == str(tmp_path / "gowalla")
    with pytest.raises(InputError, match=r"gowalla in .*: expected .*; found"):
        load_dataset("gowalla", data_dir=tmp_path)


class Site:
    """A data set "tiny" of two adjacency files, or of one zip, served from a folder."""

    def __init__(self, address: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.address, self.folder, self.monkeypatch = address, folder, monkeypatch
        self.write("0 0 1\n1 2\n", "0 2\n1 0\n")
        self.entry = DatasetEntry(
            name="tiny",
            description="two users",
            homepage="http://example.invalid",
            licence="none",
            sources=(Source(f"{address}/train.txt"), Source(f"{address}/test.txt")),
            file_sets=(FileSet(("train.txt", "test.txt"), "adjacency"),),
            editions=(Edition(Counts(2, 3, 5, 2), None),),
        )
        self.register()

    def write(self, train: str, test: str) -> None:
        (self.folder / "train.txt").write_text(train)
        (self.folder / "test.txt").write_text(test)

    def register(self, **changes) -> None:
        self.entry = dataclasses.replace(self.entry, **changes)
        self.monkeypatch.setitem(ENTRIES, "tiny", self.entry)


@pytest.fixture
def site(tmp_path, monkeypatch) -> Iterator[Site]:
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.delenv("GRAPHREC_DATA", raising=False)
    quick = partial(datasets.download_file, wait_seconds=0.0, retries=1, timeout_seconds=5.0)
    monkeypatch.setattr(datasets, "download_file", quick)
    folder = tmp_path / "site"
    folder.mkdir()

    class Handler(SimpleHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), partial(Handler, directory=str(folder))) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield Site(f"http://127.0.0.1:{server.server_address[1]}", folder, monkeypatch)
        finally:
            server.shutdown()
            thread.join(timeout=10)


@pytest.fixture
def cache(tmp_path) -> Path:
    return tmp_path / "cache"


def test_download_is_recorded_and_checked_from_then_on(site, cache):
    loaded = load_dataset("tiny", cache_dir=cache)
    assert len(loaded) == 5
    assert sorted(os.listdir(cache / "tiny")) == ["fingerprint.txt", "test.txt", "train.txt"]
    assert (cache / "tiny" / "fingerprint.txt").read_text().strip() == fingerprint(loaded)
    site.write("nothing", "is read again")
    again = load_dataset("tiny", cache_dir=cache)
    np.testing.assert_array_equal(again.pair_keys, loaded.pair_keys)
    (cache / "tiny" / "train.txt").write_text("0 0 1\n1 1\n")
    with pytest.raises(InputError, match=r"tiny in .*the counts fit but the pairs do not"):
        load_dataset("tiny", cache_dir=cache)
    assert (cache / "tiny" / "train.txt").exists()


def test_wrong_download_is_refused_and_removed(site, cache):
    site.register(editions=(Edition(Counts(2, 3, 5, 2), "0" * 64),))
    with pytest.raises(InputError, match=f"tiny in .*expected fingerprint {'0' * 64}.*found"):
        load_dataset("tiny", cache_dir=cache)
    assert os.listdir(cache / "tiny") == []
    site.register(editions=(Edition(Counts(2, 3, 6, 2), None),), remark="It grows.")
    with pytest.raises(
        InputError, match=r"expected 2 users, 3 items, 6 inter.*found 2 users.* 5 .*It grows\."
    ):
        load_dataset("tiny", cache_dir=cache)
    assert os.listdir(cache / "tiny") == []
    site.write("<html>moved</html>", "<html>moved</html>")
    with pytest.raises(InputError):
        load_dataset("tiny", cache_dir=cache)
    assert os.listdir(cache / "tiny") == []


def test_either_of_several_editions_is_accepted(site, cache):
    right = site.entry.editions[0]
    site.register(editions=(Edition(Counts(9, 9, 9, 0), "0" * 64, "old"), right))
    assert len(load_dataset("tiny", cache_dir=cache)) == 5


def test_failed_download_names_address_and_folder(site, cache):
    (site.folder / "test.txt").unlink()
    with pytest.raises(InputError) as error:
        load_dataset("tiny", cache_dir=cache)
    assert f"tiny: {site.address}/test.txt: the server answered 404" in str(error.value)
    assert f"put these files into {cache / 'tiny'}" in str(error.value)
    site.write("not fetched a second time", "0 2\n1 0\n")
    assert len(load_dataset("tiny", cache_dir=cache)) == 5


@pytest.mark.usefixtures("site")
def test_one_process_fetches_a_set(cache):
    (cache / "tiny").mkdir(parents=True)
    with (
        locked(cache / "tiny" / ".lock", "", leave=False),
        pytest.raises(InputError, match="tiny: another process is fetching it; wait for it"),
    ):
        load_dataset("tiny", cache_dir=cache)
    assert os.listdir(cache / "tiny") == []
    assert len(load_dataset("tiny", cache_dir=cache)) == 5


@pytest.mark.usefixtures("site")
def test_a_cache_that_cannot_be_written_is_named(cache):
    cache.write_text("a file in the place of the folder")
    with pytest.raises(InputError, match=r"tiny: cannot write to .*cache/tiny: Not a directory"):
        load_dataset("tiny", cache_dir=cache)


def test_places_are_searched_in_order(site, cache, tmp_path):
    mine, ours = tmp_path / "mine", tmp_path / "ours"
    for root in (mine, ours):
        (root / "tiny").mkdir(parents=True)
        for name in ("train.txt", "test.txt"):
            (root / "tiny" / name).write_bytes((site.folder / name).read_bytes())
    site.monkeypatch.setenv("GRAPHREC_DATA", str(ours))
    assert describe("tiny", data_dir=mine)["folder"] == str(mine / "tiny")
    (mine / "tiny" / "test.txt").unlink()
    assert describe("tiny", data_dir=mine)["folder"] == str(ours / "tiny")
    load_dataset("tiny", data_dir=mine, cache_dir=cache, download=False)
    assert not cache.exists()
    assert sorted(os.listdir(ours / "tiny")) == ["test.txt", "train.txt"]  # nothing recorded there


def test_archives_are_unpacked_and_removed(site, cache, monkeypatch):
    with zipfile.ZipFile(site.folder / "set.zip", "w") as archive:
        archive.writestr("set/u.data", "1\t1\t5\t10\n1\t2\t3\t11\n2\t1\t4\t12\n2\t1\t5\t13\n")
        archive.writestr("set/README", "terms")
    site.register(
        sources=(Source(f"{site.address}/set.zip", ("set/u.data",)),),
        file_sets=(FileSet(("u.data",), "movielens"),),
        editions=(Edition(Counts(2, 2, 3, 0), None),),
        min_rating=4.0,
    )
    liked = load_dataset("tiny", cache_dir=cache)
    assert sorted(os.listdir(cache / "tiny")) == ["fingerprint.txt", "u.data"]
    assert [change.interactions_after for change in liked.report] == [3, 2]
    assert len(load_dataset("tiny", cache_dir=cache, apply_threshold=False)) == 3
    (cache / "tiny" / "u.data").unlink()
    (cache / "tiny" / "set.zip").write_bytes(b"no archive")
    with pytest.raises(InputError, match="cannot be unpacked"):
        load_dataset("tiny", cache_dir=cache)
    assert os.listdir(cache / "tiny") == ["fingerprint.txt"]

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    shutil.copy(site.folder / "set.zip", cache / "tiny")
    (site.folder / "set.zip").unlink()
    with monkeypatch.context() as disk:
        disk.setattr(shutil, "copyfileobj", full)
        with pytest.raises(InputError, match=r"cannot write to .*No space left"):
            load_dataset("tiny", cache_dir=cache)
    # The archive is whole: the next try does not fetch it again.
    assert sorted(os.listdir(cache / "tiny")) == ["fingerprint.txt", "set.zip"]
    load_dataset("tiny", cache_dir=cache)
