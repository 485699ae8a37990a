"""Runs whose files a test alters, as if an earlier version had written them."""

import shutil
from pathlib import Path

from lightgcn_jax.sums import NAME


def without_sums(run: Path, target: Path) -> Path:
    """A copy of a run that says nothing of its files' bytes."""
    return shutil.copytree(run, target, ignore=shutil.ignore_patterns(NAME))
