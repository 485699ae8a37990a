"""A disk without room: a command ends by one line, and goes on where it was once there is some."""

import os
import shutil
import subprocess

import pytest

from tests.test_kills import COMMANDS, bases, call, final

__all__ = ["bases"]  # a fixture
DISK = 4 << 20
"""Bytes of a disk that holds what any of the commands starts from and writes."""


@pytest.fixture
def folder(tmp_path):
    """A folder of a disk of its own, which takes its place when it is asked for."""
    place, mounted = tmp_path / "folder", []

    def small():
        made = ["mount", "-t", "tmpfs", "-o", f"size={DISK}", "tmpfs", place]
        if shutil.which("mount") is None or subprocess.run(made, capture_output=True).returncode:
            pytest.skip("needs the right to mount a disk")
        mounted.append(place)

    yield place, small
    for one in mounted:
        subprocess.run(["umount", one], check=True)


def emptied(place):
    for one in place.iterdir():
        shutil.rmtree(one) if one.is_dir() else one.unlink()


@pytest.mark.slow
@pytest.mark.parametrize("name", COMMANDS)
def test_a_full_disk_is_one_line_and_undoes_nothing(name, bases, folder, capfd):
    command, (place, small) = COMMANDS[name], folder
    base = bases / (command.base or "none")
    shutil.copytree(base, place)
    assert call(command.package, command.arguments, place) == 0
    whole = final(place)
    emptied(place)
    small()
    refused = 0
    for left in (0, 8, 20, 60, 120):
        shutil.copytree(base, place, dirs_exist_ok=True)
        fill = place / "fill"
        fill.write_bytes(bytes(shutil.disk_usage(place).free - left * 1024))
        capfd.readouterr()
        status = call(command.package, command.arguments, place)
        said = capfd.readouterr().err
        assert status in (0, 2), said
        errors = [line for line in said.splitlines() if line.startswith("error: ")]
        assert len(errors) == bool(status), said
        assert "Traceback" not in said, said
        assert not any(line.startswith("error: No space") for line in errors), "names no file"
        fill.unlink()
        if status:
            refused += 1
            begun = command.resume is not None and (place / command.written).exists()
            again = command.resume if begun else command.arguments
            assert call(command.package, again, place) == 0
        assert final(place) == whole
        emptied(place)
    assert refused
    assert os.listdir(place) == []
