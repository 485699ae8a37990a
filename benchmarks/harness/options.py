"""Options that several benchmarks have."""

from __future__ import annotations

import argparse
from collections.abc import Iterable


def datasets_option(parser: argparse.ArgumentParser, names: Iterable[str]) -> None:
    """Add ``--datasets``, which chooses among a benchmark's data sets.

    Args:
        parser: the benchmark's.
        names: of its data sets; all of them are the default.
    """
    names = list(names)
    parser.add_argument(
        "--datasets", nargs="+", choices=names, default=names, help="data sets (default: all)"
    )
