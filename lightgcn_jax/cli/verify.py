"""The command verify: whether a run's files are as they were written."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from lightgcn_jax.cli.console import results, say, table
from lightgcn_jax.cli.runs import Switch
from lightgcn_jax.runs.verify import verify
from lightgcn_jax.sums import NAME


@dataclass(frozen=True)
class Verify:
    """Read every file of a finished run, sweep or index, of a prepared folder or of a table in
    parts, and tell which ones hold the bytes that were written.

    The status is 0 where all do, and 2 where one is changed or missing, or where nothing tells: the
    directory is not finished, or was written by an earlier version.

    Attributes:
        path: the directory.
        json: print JSON.
    """

    path: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    json: Switch = False

    def run(self) -> int:
        found = verify(self.path)
        without = [str(one) for one in found.without_sums]
        if self.json:
            print(json.dumps({"files": found.files, "without_sums": without}, indent=2))
        else:
            rows = [(name, state) for name, state in found.files.items()]
            if rows:
                results().print(table(("file", "state"), rows))
        for one in without:
            say(
                f"error: {one}: it has no {NAME}: it is not finished, or an earlier version wrote "
                "it; nothing tells whether its files are as they were written"
            )
        if found.damaged:
            count, first = len(found.damaged), next(iter(found.damaged))
            say(
                f"error: {self.path}: {count:,} of {len(found.files):,} files are not as they were "
                f"written, the first is {first}; put them back from a copy, or make them anew"
            )
        return 0 if found.is_whole else 2
