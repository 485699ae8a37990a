import multiprocessing
import os

import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import locked, replacing, whole_folder


def test_a_folder_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "deep" / "run"
    with whole_folder(target) as folder:
        (folder / "one").write_text("1")
        (folder / "inside").mkdir()
        assert not target.exists()
        assert folder.parent == target.parent
    assert sorted(path.name for path in target.iterdir()) == ["inside", "one"]
    assert list(target.parent.iterdir()) == [target]
    # As readable as what surrounds it, unlike a temporary folder.
    assert target.stat().st_mode == target.parent.stat().st_mode


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_no_folder(tmp_path, error):
    def write():
        with whole_folder(tmp_path / "run") as folder:
            (folder / "one").write_text("1")
            raise error

    with pytest.raises(error):
        write()
    assert not list(tmp_path.iterdir())


def test_a_folder_takes_the_place_of_an_empty_one_only(tmp_path):
    empty, full = tmp_path / "empty", tmp_path / "full"
    empty.mkdir()
    with whole_folder(empty) as folder:
        (folder / "one").write_text("1")
    assert (empty / "one").read_text() == "1"
    full.mkdir()
    (full / "old").write_text("old")
    with pytest.raises(OSError, match="not empty"), whole_folder(full) as folder:
        (folder / "one").write_text("1")
    assert [path.name for path in full.iterdir()] == ["old"]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["empty", "full"]


def test_an_error_leaves_the_old_file(tmp_path):
    target = tmp_path / "file"
    target.write_text("old")

    def write():
        with replacing(target) as temporary:
            temporary.write_text("half")
            raise KeyError

    with pytest.raises(KeyError):
        write()
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def _tries(path, answers):
    try:
        with locked(path, "taken"):
            answers.put("held")
    except InputError as error:
        answers.put(str(error))


def test_a_lock_keeps_out_other_processes_and_blocks(tmp_path):
    path = tmp_path / ".lock"
    processes = multiprocessing.get_context("spawn")
    answers = processes.Queue()
    with locked(path, "held here"):
        with pytest.raises(InputError, match=r"^taken$"), locked(path, "taken"):
            pass
        other = processes.Process(target=_tries, args=(path, answers))
        other.start()
        assert answers.get(timeout=60) == "taken"
        other.join()
    _tries(path, answers)
    assert answers.get(timeout=60) == "held"
    assert os.listdir(tmp_path) == [".lock"]


def test_an_error_releases_the_lock(tmp_path):
    with pytest.raises(KeyError), locked(tmp_path / ".lock", "taken"):
        raise KeyError
    with locked(tmp_path / ".lock", "taken"):
        pass
