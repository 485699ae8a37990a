"""Whether all files of a finished run or sweep, or what else has sums, hold the bytes that were
written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import NamedTuple

from lightgcn_jax.data.folders import PREPARED
from lightgcn_jax.errors import InputError
from lightgcn_jax.parted import PARTED
from lightgcn_jax.paths import refuse_links
from lightgcn_jax.runs.checkpoint import checkpoint_folders, checkpoint_states
from lightgcn_jax.sums import NAME, State, verified

_WHAT = ("config.json", "sweep.json", PREPARED, PARTED, NAME)
OPTUNAS_LOCKS = re.compile(r"optuna\.log\.lock([0-9a-f-]+\.rename)?")
"""Links by which Optuna locks its log: earlier versions let it, and their killed processes left
them, the latter while a lock was given back."""


class Verified(NamedTuple):
    """What became of a directory's files.

    Attributes:
        path: the directory.
        files: the state of each file by its path within, those of checkpoints and of the runs of a
            sweep among them.
        without_sums: the directories whose files nothing tells about: the run, or a run of a sweep,
            that an earlier version wrote, or that is not finished.
    """

    path: Path
    files: dict[str, State]
    without_sums: tuple[Path, ...]

    @property
    def damaged(self) -> dict[str, State]:
        """The files that are changed, missing or unreadable; others may lie there unlisted."""
        return {name: one for name, one in self.files.items() if one not in ("ok", "not listed")}

    @property
    def is_whole(self) -> bool:
        """Whether every file that was written is as it was written."""
        return not self.damaged and not self.without_sums


def verify(path: Path | str) -> Verified:
    """Read all files of a finished run or sweep, an index, a folder to pass on, a prepared folder
    or a table in parts, and compare their sums with those written.

    Args:
        path: its directory.

    Raises:
        InputError: it is none of these, or its ``sums.json`` is damaged.

    Example:
        ``verify("run").is_whole``
    """
    path = Path(path)
    if not any((path / name).is_file() for name in _WHAT):
        raise InputError(
            f"{path}: expected the directory of a run, a sweep or an index, a prepared folder "
            f"or a table in parts, {'got another' if path.exists() else 'there is none'}"
        )
    refuse_links(path, OPTUNAS_LOCKS)
    runs = [one for one in (path / "best", path / "best-refit") if one.is_dir()]
    files: dict[str, State] = {}
    without = []
    for folder in (path, *runs):
        found = verified(folder)
        if found is None:
            without.append(folder)
        within = found or {}
        for checkpoint in checkpoint_folders(folder / "checkpoints"):
            place = checkpoint.relative_to(folder).as_posix()
            states = checkpoint_states(checkpoint)
            within |= {f"{place}/{name}": state for name, state in states.items()}
        place = "" if folder == path else f"{folder.name}/"
        files |= {place + name: state for name, state in within.items()}
    return Verified(path, dict(sorted(files.items())), tuple(without))
