import multiprocessing
import os
import shutil
import stat
import subprocess
import sys
import time

import pytest
import safetensors

from lightgcn_jax import files
from lightgcn_jax.errors import InputError
from lightgcn_jax.files import held, locked, remove_abandoned, replaceable, replacing, whole_folder
from lightgcn_jax.paths import refuse_links


def test_a_folder_appears_when_it_is_whole(tmp_path):
    target = tmp_path / "deep" / "run"
    with whole_folder(target) as folder:
        (folder / "one").write_text("1")
        (folder / "inside").mkdir()
        assert not target.exists()
        assert folder.parent == target.parent
    assert sorted(path.name for path in target.iterdir()) == ["inside", "one"]
    assert list(target.parent.iterdir()) == [target]
    # As readable as any new folder, unlike a temporary one.
    (tmp_path / "plain").mkdir()
    assert target.stat().st_mode == (tmp_path / "plain").stat().st_mode


def test_a_folder_is_no_more_open_than_it_was(tmp_path):
    shared, private = tmp_path / "shared", tmp_path / "private"
    shared.mkdir()
    shared.chmod(0o1777)
    private.mkdir()
    private.chmod(0o700)
    for target in (shared / "run", private):
        with whole_folder(target) as folder:
            (folder / "one").write_text("1")
    assert stat.S_IMODE((shared / "run").stat().st_mode) & 0o022 == 0
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_leaves_no_folder(tmp_path, error):
    def write():
        with whole_folder(tmp_path / "run") as folder:
            (folder / "one").write_text("1")
            raise error

    with pytest.raises(error):
        write()
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("into", [replacing, whole_folder])
def test_what_libraries_say_of_a_full_disk_is_an_error_of_the_disk(into, tmp_path):
    target = tmp_path / "target"
    error = safetensors.SafetensorError("I/O error: No space left on device (os error 28)")
    said = pytest.raises(OSError, match="cannot be written: I/O error: No space")
    with said as caught, into(target):
        raise error
    assert caught.value.filename == str(target)
    assert not os.listdir(tmp_path)


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


@pytest.mark.parametrize("at_once", [True, False])
def test_a_replaced_folder_comes_back_where_the_new_one_goes(at_once, tmp_path, monkeypatch):
    if not at_once:  # as where the system cannot exchange two names
        monkeypatch.setattr(files, "_exchange", lambda *_: False)
    target = tmp_path / "run"
    target.mkdir()
    (target / "old").touch()
    with replaceable(target):
        with whole_folder(target, "run") as folder:
            (folder / "new").touch()
        assert [one.name for one in target.iterdir()] == ["new"]
        remove_abandoned(target)
        shutil.rmtree(target)
    assert [one.name for one in target.iterdir()] == ["old"]
    with replaceable(target), whole_folder(target, "run") as folder:
        (folder / "new").touch()
    assert [one.name for one in target.iterdir()] == ["new"]
    assert [one.name for one in tmp_path.iterdir()] == ["run"]


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


def test_what_a_killed_process_left_is_removed_by_the_next_that_writes_the_same(tmp_path):
    """What another process still writes stays, and so does what belongs to other names."""
    names = (".run.1a2b3c4d.tmp", ".run[1].1a2b3c4d.tmp", ".other.1a2b3c4d.tmp")
    left, of_pattern, of_other = (tmp_path / name for name in names)
    before = time.time() - 60
    for path in (left, of_pattern, of_other):
        path.mkdir()
        (path / "half").touch()
        os.utime(path, (before, before))
    with whole_folder(tmp_path / "run"):
        assert not left.exists()
        with whole_folder(tmp_path / "run[1]"):
            pass
        [own] = (one for one in tmp_path.iterdir() if one.name.startswith(".run."))
        os.utime(own, (before, before))
        with replacing(tmp_path / "run"):
            assert own.exists()
        (tmp_path / "run").unlink()
    assert sorted(os.listdir(tmp_path)) == [".other.1a2b3c4d.tmp", "run", "run[1]"]


def test_files_of_a_folder_are_as_readable_as_any(tmp_path):
    """safetensors makes private ones, which whoever is given the folder could not read."""
    with whole_folder(tmp_path / "run") as folder:
        (folder / "one").touch(0o600)
    (tmp_path / "other").touch()
    assert (tmp_path / "run" / "one").stat().st_mode == (tmp_path / "other").stat().st_mode


def test_who_holds_a_folder_removes_what_a_killed_process_left_in_it(tmp_path):
    names = (".sums.json.1a2b3c4d.tmp", "fresh/.a.npy.1a2b3c4d.tmp", "a.tmp", ".hidden.tmp", "one")
    (tmp_path / "fresh").mkdir()
    for name in names:
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (0, 0))
    with replacing(tmp_path / "other") as own:
        os.utime(own, (0, 0))
        held_by_two = (held(tmp_path, "taken"), held(tmp_path, "taken"))
        with held_by_two[0], pytest.raises(InputError, match="taken"), held_by_two[1]:
            pass
        assert own.exists()
    assert sorted(os.listdir(tmp_path)) == [
        ".hidden.tmp",
        ".lock",
        "a.tmp",
        "fresh",
        "one",
        "other",
    ]
    assert not os.listdir(tmp_path / "fresh")


def test_a_name_of_any_length_that_the_disk_takes(tmp_path):
    for target in (tmp_path / ("n" * 255), tmp_path / ("é" * 127)):
        with replacing(target) as temporary:
            temporary.write_text("1")
        assert target.read_text() == "1"
    assert len(os.listdir(tmp_path)) == 2


def test_bytes_are_on_the_disk_before_a_name_tells_of_them(tmp_path, monkeypatch):
    order = []
    fsync = os.fsync

    def noted(descriptor):
        order.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        fsync(descriptor)

    if not os.path.isdir("/proc/self/fd"):
        pytest.skip("tells descriptors by /proc")
    monkeypatch.setattr(os, "fsync", noted)
    with whole_folder(tmp_path / "run") as folder:
        (folder / "inside").mkdir()
        (folder / "inside" / "one").write_text("1")
    [one, inside, whole, parent] = order
    assert one.endswith("/inside/one")
    assert inside.endswith("/inside")
    assert whole.endswith(".tmp")
    assert parent == str(tmp_path)


def test_a_signal_leaves_no_scratch_folder(tmp_path):
    script = """
import os, signal
from lightgcn_jax.interrupts import take_over
take_over()
from lightgcn_jax.files import scratch_folder
with scratch_folder() as folder:
    (folder / "large").write_text("x")
    os.kill(os.getpid(), signal.SIGTERM)
    while True: pass
"""
    command, environment = [sys.executable, "-c", script], os.environ | {"TMPDIR": str(tmp_path)}
    ended = subprocess.run(command, env=environment, timeout=60, check=False, capture_output=True)
    assert ended.returncode == 143
    assert not os.listdir(tmp_path)


def test_a_lock_empties_no_file_that_a_link_leads_to(tmp_path):
    (tmp_path / "precious").write_text("1")
    (tmp_path / "lock").symlink_to("precious")
    with pytest.raises(InputError, match="got a link"), locked(tmp_path / "lock", ""):
        pass
    assert (tmp_path / "precious").read_text() == "1"


@pytest.mark.parametrize("make", [lambda path: path.symlink_to("/etc/hosts"), os.mkfifo])
def test_what_lies_elsewhere_or_never_ends_is_refused(tmp_path, make):
    (tmp_path / "run" / "vectors").mkdir(parents=True)
    (tmp_path / "run" / "one").touch()
    refuse_links(tmp_path / "run")
    (tmp_path / "link").symlink_to(tmp_path / "run")
    refuse_links(tmp_path / "link")
    make(tmp_path / "run" / "vectors" / "layer-0.npy")
    with pytest.raises(InputError, match=r"vectors/layer-0\.npy: expected a file or folder of"):
        refuse_links(tmp_path / "run")
