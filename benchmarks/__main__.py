"""``python -m benchmarks NAME``: measure one thing beside its peer, print it, keep it as JSON.

A benchmark is a module of this package with ``add_options(parser)`` and ``run(args) -> Report``.
"""

from __future__ import annotations

from lightgcn_jax.interrupts import note_end, take_over

if __name__ == "__main__":
    take_over()  # before anything that takes time is imported

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.harness.report import print_report, write_json
from lightgcn_jax.allocator import keep_freed_memory
from lightgcn_jax.consoles import fit_streams
from lightgcn_jax.errors import InputError


class Benchmark(NamedTuple):
    """Where a benchmark is, and what a reader is told of it.

    Attributes:
        module: its module, with ``add_options`` and ``run``.
        about: what it measures.
    """

    module: str
    about: str


BENCHMARKS = {
    "train_step": Benchmark(
        "benchmarks.speed.train_step",
        "a training step of Gowalla, LightGCN and NGCF, against PyTorch; peak memory",
    ),
    "batch_loss": Benchmark(
        "benchmarks.speed.batch_loss",
        "the softmax of a batch over shared negatives and an epoch's order, against PyTorch",
    ),
    "ranking": Benchmark(
        "benchmarks.speed.ranking",
        "the full-ranking evaluation of Gowalla against PyTorch and against bare products",
    ),
    "recommend": Benchmark(
        "benchmarks.speed.recommend",
        "one user's best of 200,000 items, with filters, against NumPy's product and partition",
    ),
    "serving": Benchmark(
        "benchmarks.speed.serving",
        "the best 100 of 100,000 to 10 million items, exact and approximate, known and new users",
    ),
    "service": Benchmark(
        "benchmarks.speed.service",
        "the HTTP service on Gowalla under load, a reload in the middle, memory",
    ),
    "diffusion": Benchmark(
        "benchmarks.speed.diffusion",
        "an application of Ã, and three forward and backward, against PyTorch, PyG, SciPy",
    ),
    "orders_and_rows": Benchmark(
        "benchmarks.speed.orders_and_rows",
        "an application of Ã in other orders of the nodes, for few rows, for wide tables",
    ),
    "conversion": Benchmark(
        "benchmarks.speed.conversion",
        "a matrix of 100 million entries to every storage: seconds and peak memory",
    ),
    "prepare": Benchmark(
        "benchmarks.speed.prepare",
        "a log of 100 million rows to a prepared folder: rows a second, peak memory, bytes an edge",
    ),
    "scale": Benchmark(
        "benchmarks.speed.scale",
        "a training step from 1 to 100 million edges; training from a prepared folder",
    ),
    "gfcf": Benchmark(
        "benchmarks.speed.gfcf",
        "GF-CF of Gowalla: seconds from the graph to the model, accuracy in full",
    ),
    "filter": Benchmark(
        "benchmarks.speed.filter",
        "polynomial filters of Gowalla: seconds of fit and full ranking, accuracy in full",
    ),
    "pinsage": Benchmark(
        "benchmarks.speed.pinsage",
        "PinSAGE: walks, neighbours, a training step and all items, against peers",
    ),
    "pinsage_scale": Benchmark(
        "benchmarks.speed.pinsage_scale",
        "PinSAGE on 10 million items: graph, walks, minutes of training, all items, resumed",
    ),
    "accelerator": Benchmark(
        "benchmarks.speed.accelerator",
        "all that a GPU or TPU is measured by, in some minutes, unattended",
    ),
    "ingest": Benchmark(
        "benchmarks.speed.ingest",
        "ten million rows of CSV: read, de-duplicate, split; seconds and peak memory",
    ),
    "models": Benchmark(
        "benchmarks.tables.models",
        "every model side by side on one data set, beside the published figures",
    ),
    "presets": Benchmark(
        "benchmarks.tables.presets",
        "the presets beside item-based cosine and popularity on data sets of several sizes",
    ),
    "time_to_quality": Benchmark(
        "benchmarks.tables.time_to_quality",
        "seconds of training until LightGCN reaches recall@20 .1824 on Gowalla",
    ),
    "users_to_items": Benchmark(
        "benchmarks.tables.users_to_items",
        "users to items: PinSAGE beside LightGCN, GF-CF and item-based cosine",
    ),
    "fold_in": Benchmark(
        "benchmarks.tables.fold_in",
        "newcomers from half of their items, beside the same users trained in full",
    ),
    "two_stage": Benchmark(
        "benchmarks.tables.two_stage",
        "candidates ranked by a second stage, beside the model alone, by time",
    ),
    "language": Benchmark(
        "benchmarks.tables.language",
        "text against graph, and text as an input of PinSAGE: MAP, precision, recall, F1 at 12",
    ),
    "parity": Benchmark(
        "benchmarks.parity.lightgcn",
        "the same steps and rankings as PyTorch's, number by number",
    ),
}
RESULTS = Path(__file__).parent / "results"

_USAGE = "python -m benchmarks NAME [--json [FILE]] [--data-dir DIR] [...]"
_STATUS = "exit status: 0 if no claim fails, 1 if one does, 2 for input that does not fit"


def main(argv: Sequence[str]) -> int:
    """Run one benchmark.

    Args:
        argv: the arguments, the benchmark's name first.

    Returns:
        The exit status: 0 if no claim fails, 1 if one does, 2 for input that does not fit.
    """
    if not argv or argv[0] in ("-h", "--help"):
        names = "\n".join(f"  {name:<15} {one.about}" for name, one in BENCHMARKS.items())
        print(f"usage: {_USAGE}\n\n{names}\n\npython -m benchmarks NAME --help: its options")
        print(_STATUS)
        return 0
    name, *rest = argv
    if name not in BENCHMARKS:
        return _refuse(f"unknown benchmark {name!r}: expected one of {', '.join(BENCHMARKS)}")
    try:
        benchmark = importlib.import_module(BENCHMARKS[name].module)
        args = _parser(name, benchmark).parse_args(rest)
        report = benchmark.run(args)
    except InputError as error:
        return _refuse(str(error))
    except ModuleNotFoundError as error:
        return _refuse(f"{name}: no module {error.name}; install the project with its bench extra")
    print_report(report)
    if args.json is not None:
        write_json(report, args.json)
        print(f"written to {args.json}")
    return int(any(claim.holds is False for claim in report.claims))


def _parser(name: str, benchmark) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {name}", description=benchmark.__doc__, epilog=_STATUS
    )
    parser.add_argument(
        "--json",
        nargs="?",
        type=Path,
        const=RESULTS / f"{name}.json",
        metavar="FILE",
        help=f"keep the result, by default in benchmarks/results/{name}.json",
    )
    parser.add_argument(
        "--data-dir",
        type=Path,
        metavar="DIR",
        help="folder with one folder for each data set; by default what GRAPHREC_DATA names",
    )
    benchmark.add_options(parser)
    return parser


def _refuse(message: str) -> int:
    print(f"benchmarks: {message}", file=sys.stderr)
    return 2


if __name__ == "__main__":
    fit_streams()
    # For all sides of a race alike: PyTorch asks the same C library for its tables.
    keep_freed_memory()
    status = main(sys.argv[1:])
    note_end()
    sys.exit(status)
