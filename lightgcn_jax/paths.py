"""Names and folders that are refused before anything is opened there."""

from __future__ import annotations

import os
import re
import stat
from pathlib import Path

from lightgcn_jax.errors import InputError


def refuse_no_text(path: Path) -> None:
    """Refuse a name that the libraries which read and write tables and arrays do not take.

    Args:
        path: a file or folder.

    Raises:
        InputError: its bytes are no UTF-8, or more than ASCII where there is no locale.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(
            f"{path}: expected a name in UTF-8, and a locale (LC_ALL) that knows it where it is "
            "more than ASCII"
        ) from None


def refuse_links(folder: Path, allowed: re.Pattern[str] | None = None) -> None:
    """Refuse a directory whose files lie elsewhere: what is written or removed in a run that
    somebody else made must not reach beyond it, and what is read must not hang.

    Args:
        folder: the directory; it may be a link itself.
        allowed: names of what may be a link, for it is never followed.

    Raises:
        InputError: a link, a pipe or a device is in it, at any depth; or its name is no text.
    """
    refuse_no_text(folder)
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
