"""Names and folders that are refused before anything is opened there."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from lightgcn_jax.errors import InputError

_LONGEST = 3_800
"""Bytes of a path that leave room for what a run or a checkpoint holds beneath it: Linux takes
4,095, and orbax tells of longer ones by pages."""


def refuse_no_text(given: str, flag: str = "") -> None:
    """Refuse what the system gave for bytes that are no text.

    Args:
        given: a name, or what stands behind a flag.
        flag: that flag, ``--data: `` for instance, for the message.

    Raises:
        InputError: its bytes are no UTF-8, or more than ASCII where there is no locale.
    """
    try:
        given.encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{flag}{given}: expected a name in UTF-8, and a locale (LC_ALL) that knows it where "
            "it is more than ASCII"
        ) from None


def refuse_odd_name(path: Path) -> None:
    """Refuse a name that the libraries which read and write tables and arrays do not take.

    Args:
        path: a file or folder.

    Raises:
        InputError: its bytes are no UTF-8, or more than ASCII where there is no locale; or the path
            is too long.
    """
    refuse_no_text(str(path))
    length = len(os.fsencode(path.absolute()))
    if length > _LONGEST:
        raise InputError(f"{path}: expected a path of at most {_LONGEST:,} bytes, got {length:,}")


def refuse_links(folder: Path, allowed: re.Pattern[str] | None = None) -> None:
    """Refuse a directory whose files lie elsewhere: what is written or removed in a run that
    somebody else made must not reach beyond it, and what is read must not hang.

    Args:
        folder: the directory; it may be a link itself.
        allowed: names of what may be a link, for it is never followed.

    Raises:
        InputError: a link, a pipe or a device is in it, at any depth; or its name is
            one that :func:`refuse_odd_name` refuses.
    """
    refuse_odd_name(folder)
    for place, folders, names in os.walk(folder):
        for name in (*folders, *names):
            path = Path(place, name)
            mode = path.lstat().st_mode
            known = stat.S_ISDIR(mode) or stat.S_ISREG(mode)
            if not (known or (allowed and allowed.fullmatch(name))):
                kind = "a link" if stat.S_ISLNK(mode) else "a pipe or a device"
                raise InputError(
                    f"{path}: expected a file or folder of the directory's own, got {kind}"
                )
