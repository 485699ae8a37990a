"""SHA-256 sums of the files of a finished directory, so that altered bytes are noticed.

``sums.json`` lists them. It is written whole, just before the file that says that the directory is
finished; until then, and in a directory of an earlier version, there is none, and nothing is
checked. Pictures, locks, checkpoints (which have a list of their own) and folders within that hold
a ``sums.json`` are not listed. Sums tell accidents; who alters files on purpose alters them too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing, sha256, write_text
from lightgcn_jax.json_files import json_text, read_json, write_json

NAME = "sums.json"
"""The file in the directory."""

State = Literal["ok", "changed", "missing", "not listed", "unreadable"]

LARGE = 64 << 20
"""Bytes of a file that is mapped into memory, above which it is not checked when it is opened: that
would take longer than opening it."""

_ELSEWHERE = "checkpoints"
_PICTURES = (".png", ".svg", ".pdf")
_SAID: dict[State, str] = {
    "ok": "holds the bytes that were written",
    "changed": "has other bytes than were written",
    "missing": "is missing",
    "not listed": "is not listed in",
    "unreadable": "is missing or unreadable",
}


class _Listed(NamedTuple):
    """What ``sums.json`` holds.

    Attributes:
        files: the sum of each file by its path within the directory.
        changing: the sum that a file is getting, None for one that goes: while it is replaced, and
            after a kill in the middle of that, it has this one or that of ``files``.
    """

    files: dict[str, str]
    changing: dict[str, str | None]

    def fits(self, name: str, actual: str | None) -> bool:
        """Whether a file may have a sum; None for a file that is not there."""
        expected = [self.files.get(name), *([self.changing[name]] if name in self.changing else [])]
        return actual in expected


class Sums:
    """The sums of a directory. Each file is read for them once, when it is asked for.

    Args:
        folder: the directory.
    """

    def __init__(self, folder: Path):
        self._folder, self._listed = folder, _read(folder)
        self._fine: set[str] = set()

    def listed(self, name: str) -> str | None:
        """The sum that a file should have; None where none is listed.

        Args:
            name: its path within the directory.
        """
        return None if self._listed is None else self._listed.files.get(name)

    def checked(self, name: str, *, mapped: bool = False) -> Path:
        """A file that is about to be read, or one that may be missing where none is listed.

        Args:
            name: its path within the directory.
            mapped: whether it is mapped into memory, so that one that is :data:`LARGE` is not read.

        Returns:
            Its whole path.

        Raises:
            InputError: the file is missing, or holds other bytes than when the directory was
                finished.
        """
        path = self._folder / name
        if self._listed is None or name in self._fine:
            return path
        if not (mapped and path.is_file() and path.stat().st_size > LARGE):
            actual = sha256(path) if path.is_file() else None
            if not self._listed.fits(name, actual):
                # Another process may have replaced the file and its sum since they were read.
                self._listed = _read(self._folder) or self._listed
            if not self._listed.fits(name, actual):
                listed = name in self._listed.files
                state = "missing" if actual is None else "changed" if listed else "not listed"
                raise InputError(
                    f"{path}: {said(state)}: put back the file as it was, from a copy, or make the "
                    f"directory anew; if you changed it on purpose, remove {NAME} beside it"
                )
        self._fine.add(name)
        return path


def said(state: State, manifest: str = NAME) -> str:
    """What is to be said of a file.

    Args:
        state: what is the matter with it.
        manifest: the file that lists it.
    """
    return f"{_SAID[state]} {manifest}" if state == "not listed" else _SAID[state]


def states(listed: Mapping[str, str], actual: Mapping[str, str]) -> dict[str, State]:
    """Compare the sums that were written with those of the files, by name, in their order.

    Args:
        listed: the sums that were written.
        actual: those of the files that are there.
    """
    found: dict[str, State] = {}
    for name in sorted(listed.keys() | actual.keys()):
        if name not in actual:
            found[name] = "missing"
        elif name not in listed:
            found[name] = "not listed"
        else:
            found[name] = "ok" if actual[name] == listed[name] else "changed"
    return found


def verified(folder: Path) -> dict[str, State] | None:
    """The state of each file of a directory, read whole; None where it has no sums.

    Args:
        folder: the directory.

    Raises:
        InputError: ``sums.json`` itself is damaged.
    """
    listed = _read(folder)
    return None if listed is None else states(_settled(folder, listed), sums_of(folder))


def sums_of(folder: Path) -> dict[str, str]:
    """The sums of all files of a directory that are to be listed, by their paths within it.

    Args:
        folder: the directory.
    """
    return {path.relative_to(folder).as_posix(): sha256(path) for path in _files(folder)}


def fingerprint_of(folder: Path) -> str:
    """What tells a finished run from another: the sum of its sums, or of its settings where an
    earlier version wrote none.

    Args:
        folder: the run directory.
    """
    sums = folder / NAME
    return sha256(sums if sums.is_file() else folder / "config.json")


def write_sums(folder: Path, last: Mapping[str, bytes]) -> None:
    """List a directory's files.

    Args:
        folder: the directory, which holds all but the last of them.
        last: the content of files that are written next, by name.
    """
    coming = {name: hashlib.sha256(content).hexdigest() for name, content in last.items()}
    _write(folder, sums_of(folder) | coming)


def write_last(path: Path, value: Any) -> None:
    """Write the file that says that a directory is finished, after the sums of all its files.

    Args:
        path: the file.
        value: a JSON value.
    """
    text = json_text(value)
    write_sums(path.parent, {path.name: text.encode()})
    write_text(path, text)


def remove_sums(folder: Path, files: Collection[str] = ()) -> None:
    """Take back that a directory is finished, and remove files that it no longer needs.

    Args:
        folder: the directory.
        files: names of files within.
    """
    for name in (NAME, *files):
        (folder / name).unlink(missing_ok=True)


def replace_listed(folder: Path, name: str, content: bytes | None) -> None:
    """Replace a file of a finished directory, and its sum with it: a kill at any moment leaves the
    old file or the new one, and sums that either fits.

    Args:
        folder: the directory, which this process holds.
        name: the file's path within it.
        content: what it is to hold; None removes it.
    """
    listed = _read(folder)
    if listed is None:
        _put(folder / name, content)
        return
    files = _settled(folder, listed)
    coming = None if content is None else hashlib.sha256(content).hexdigest()
    _write(folder, files, {name: coming})
    _put(folder / name, content)
    _write(folder, _with(files, name, coming))


def _put(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink(missing_ok=True)
    else:
        with replacing(path) as temporary:
            temporary.write_bytes(content)


def _settled(folder: Path, listed: _Listed) -> dict[str, str]:
    """The sums by file, where a change that was broken off is either done or not begun."""
    files = dict(listed.files)
    for name, coming in listed.changing.items():
        path = folder / name
        actual = sha256(path) if path.is_file() else None
        if actual == coming:
            files = _with(files, name, coming)
    return files


def _with(files: Mapping[str, str], name: str, coming: str | None) -> dict[str, str]:
    """Sums by file, with that of one replaced; None for a file that goes."""
    others = {one: value for one, value in files.items() if one != name}
    return others | ({} if coming is None else {name: coming})


def _files(folder: Path) -> Iterator[Path]:
    for path in folder.iterdir():
        if path.is_dir():
            if path.name != _ELSEWHERE and not (path / NAME).exists():
                yield from _files(path)
        elif path.suffix not in _PICTURES and path.name != NAME and path.name[0] != ".":
            yield path


def _read(folder: Path) -> _Listed | None:
    path = folder / NAME
    if not path.exists():
        return None
    found = read_json(path)
    keys = {"sha256"}, {"sha256", "changing"}
    if not isinstance(found, dict) or set(found) not in keys:
        raise _damaged(path)
    tables = found["sha256"], found.get("changing", {})
    if not all(map(_is_table, tables)) or None in tables[0].values():
        raise _damaged(path)
    return _Listed(*tables)


def _is_table(value: Any) -> bool:
    return isinstance(value, dict) and all(
        one is None or (isinstance(one, str) and len(one) == 64) for one in value.values()
    )


def _damaged(path: Path) -> InputError:
    return InputError(
        f"{path}: expected the sums of the directory's files, got something else; put it back from "
        "a copy, or remove it to go on without sums"
    )


def _write(
    folder: Path, files: Mapping[str, str], changing: Mapping[str, str | None] | None = None
) -> None:
    more = {} if changing is None else {"changing": dict(changing)}
    write_json(folder / NAME, {"sha256": dict(sorted(files.items()))} | more)
