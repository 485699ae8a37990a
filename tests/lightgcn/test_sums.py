"""Sums of files: what is altered, gone or new is told, and a kill leaves file and sum together."""

import hashlib
import json

import pytest

from lightgcn_jax import sums
from lightgcn_jax.errors import InputError
from lightgcn_jax.sums import NAME, Sums, remove_sums, replace_listed, sums_of, verified, write_sums


@pytest.fixture
def folder(tmp_path):
    """Two files, one of them within a folder, and what is not listed."""
    (tmp_path / "vectors").mkdir()
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "a.json").write_bytes(b"{}")
    (tmp_path / "vectors" / "b.npy").write_bytes(b"1234")
    for name in ("plot.png", ".lock", "checkpoints/c"):
        (tmp_path / name).write_bytes(b"x")
    write_sums(tmp_path, {"last.json": b"[]"})
    (tmp_path / "last.json").write_bytes(b"[]")
    return tmp_path


def digest(content):
    return hashlib.sha256(content).hexdigest()


def test_every_file_is_listed_in_order(folder):
    listed = {"a.json": digest(b"{}"), "last.json": digest(b"[]"), "vectors/b.npy": digest(b"1234")}
    text = json.dumps({"sha256": listed}, indent=2) + "\n"
    assert (folder / NAME).read_text() == text
    assert sums_of(folder) == listed
    assert verified(folder) == dict.fromkeys(listed, "ok")


def test_pictures_locks_and_checkpoints_may_change(folder):
    for name in ("plot.png", ".lock", "checkpoints/c", "other.svg"):
        (folder / name).write_bytes(b"other")
    assert set(verified(folder).values()) == {"ok"}


def test_each_state_of_a_file(folder):
    (folder / "a.json").write_bytes(b"[]")
    (folder / "vectors" / "b.npy").unlink()
    (folder / "new.txt").write_bytes(b"")
    expected = {"a.json": "changed", "last.json": "ok", "new.txt": "not listed"}
    assert verified(folder) == expected | {"vectors/b.npy": "missing"}
    found = Sums(folder)
    assert found.checked("last.json") == folder / "last.json"
    for name, message in (
        ("a.json", "a.json: has other bytes than were written: put back"),
        ("vectors/b.npy", "b.npy: is missing: put back the file"),
        ("new.txt", "new.txt: is not listed in sums.json: .* remove sums.json beside it"),
    ):
        with pytest.raises(InputError, match=message):
            found.checked(name)
    assert found.checked("neither listed nor there") == folder / "neither listed nor there"


def test_a_file_is_read_once_for_its_sum(folder, monkeypatch):
    found, read = Sums(folder), []
    monkeypatch.setattr(sums, "sha256", lambda path: read.append(path) or digest(b"{}"))
    for _ in range(3):
        found.checked("a.json")
    assert read == [folder / "a.json"]


def test_a_large_file_that_is_mapped_is_left_to_verify(folder, monkeypatch):
    (folder / "vectors" / "b.npy").write_bytes(b"4321")
    monkeypatch.setattr(sums, "LARGE", 3)
    Sums(folder).checked("vectors/b.npy", mapped=True)
    assert verified(folder)["vectors/b.npy"] == "changed"
    for large, mapped in ((3, False), (4, True)):
        monkeypatch.setattr(sums, "LARGE", large)
        with pytest.raises(InputError, match="other bytes"):
            Sums(folder).checked("vectors/b.npy", mapped=mapped)
    (folder / "vectors" / "b.npy").unlink()
    with pytest.raises(InputError, match="is missing"):
        Sums(folder).checked("vectors/b.npy", mapped=True)


def test_a_directory_without_sums_is_not_checked(folder):
    remove_sums(folder, ["last.json"])
    assert not (folder / "last.json").exists()
    (folder / "a.json").write_bytes(b"anything")
    assert Sums(folder).checked("a.json") == folder / "a.json"
    assert verified(folder) is None
    replace_listed(folder, "a.json", b"more")
    assert (folder / "a.json").read_bytes() == b"more"
    assert not (folder / NAME).exists()


@pytest.mark.parametrize(
    "text", ["", "[]", "{}", '{"sha256": []}', '{"sha256": {"a.json": 3}}',
             '{"sha256": {"a": null}}', '{"sha256": {}, "more": {}}',
             '{"sha256": {}, "changing": {"a.json": "00"}}']
)  # fmt: skip
def test_damaged_sums_are_named(folder, text):
    (folder / NAME).write_text(text)
    for use in (Sums, verified):
        with pytest.raises(InputError, match=r"sums\.json: expected"):
            use(folder)


def test_another_process_may_replace_a_file_meanwhile(folder):
    found = Sums(folder)
    replace_listed(folder, "a.json", b"[1]")
    assert found.checked("a.json").read_bytes() == b"[1]"


class Killed(BaseException):
    """Stands for the end of the process."""


CALLS = 3
"""What a replacement does to the disk: its sum is announced, it takes its place, it is settled."""


@pytest.mark.parametrize("after", range(CALLS + 1))
@pytest.mark.parametrize("content", [b"new", None])
@pytest.mark.parametrize("then", [b"newer", None])
def test_a_kill_while_a_file_is_replaced_leaves_it_with_its_sum(
    folder, monkeypatch, after, content, then
):
    """Killed before each of the steps; whatever came of them fits, and can be replaced again."""
    name, done = "vectors/b.npy", 0

    def counted(step):
        def made(*given, **more):
            nonlocal done
            if done == after:
                raise Killed
            done += 1
            return step(*given, **more)

        return made

    with monkeypatch.context() as patched:
        patched.setattr(sums, "write_json", counted(sums.write_json))
        patched.setattr(sums, "_put", counted(sums._put))
        try:
            replace_listed(folder, name, content)
        except Killed:
            assert after < CALLS
    path = folder / name
    found = path.read_bytes() if path.exists() else None
    assert found == (b"1234" if after < 2 else content)
    assert Sums(folder).checked(name) == path
    assert set(verified(folder).values()) == {"ok"}
    replace_listed(folder, name, then)
    assert (path.read_bytes() if path.exists() else None) == then
    kept = json.loads((folder / NAME).read_text())
    assert list(kept) == ["sha256"]
    assert kept["sha256"] == sums_of(folder)
