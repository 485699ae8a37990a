"""The stages of ``python -m benchmarks accelerator``, each a process that says what it measures.

``python -m benchmarks.speed.accelerator_stages NAME --seconds S`` prints a line of JSON for every
figure as soon as it has it. Nothing is imported but what the stage needs.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# PyTorch and JAX share the memory of a GPU.
os.environ.setdefault("XLA_PYTHON_CLIENT_PREALLOCATE", "false")

from benchmarks.harness.report import alternate
from benchmarks.speed.accelerator import MARK
from benchmarks.workloads.accelerator_data import Given, graph_of, split_of

_DIM = 64


def say(**figures: Any) -> None:
    """Hand figures to whoever started the stage.

    Args:
        figures: by name; a later one of a name takes the place of an earlier one.
    """
    print(MARK, json.dumps(figures, allow_nan=False), flush=True)


def device(given: Given) -> None:
    """What JAX and PyTorch see, and what the device copies a second.

    Args:
        given: what is asked for.
    """
    import jax

    from lightgcn_jax.memory import device_memory
    from lightgcn_jax.roofline.accelerators import ACCELERATORS
    from lightgcn_jax.roofline.ceilings import copy_bandwidth
    from lightgcn_jax.roofline.targets import find_target

    here = jax.devices()
    say(
        platform=here[0].platform,
        kind=here[0].device_kind,
        count=len(here),
        jax=jax.__version__,
        memory_bytes=device_memory(),
    )
    copied = copy_bandwidth(find_target(), min(given.rounds, 5))
    known = [one for one in ACCELERATORS.values() if one.name in _short(here[0].device_kind)]
    peak = known[0].memory_bandwidth if known else None
    say(
        copy_bandwidth=copied,
        peak_bandwidth=peak,
        copied_over_peak=None if peak is None else copied / peak,
    )
    try:
        import torch
    except ModuleNotFoundError:
        say(torch=None)
    else:
        say(torch=torch.__version__, torch_sees_gpu=torch.cuda.is_available())


def _short(kind: str) -> str:
    """``NVIDIA H200`` and ``TPU v5 lite`` as the table of accelerators names them."""
    return kind.lower().replace(" lite", "e").replace("tpu v5", "v5").replace("tpu v6", "v6")


def storages(given: Given) -> None:
    """Every storage of a graph: errors against the product in float64, seconds, bandwidth.

    Args:
        given: what is asked for.
    """
    import jax

    from benchmarks.workloads.diffusion_contenders import TASKS, Problem
    from benchmarks.workloads.diffusion_contenders import storages as contenders
    from lightgcn_jax.diffusion.choice import choose_backend
    from lightgcn_jax.roofline.ceilings import copy_bandwidth
    from lightgcn_jax.roofline.targets import find_target

    began = time.monotonic()
    problem = Problem(graph_of(given), _DIM)
    sizes = problem.sizes
    row = 4 * sizes.dim
    # A row of the table for each entry, the entry itself, and the rows of the result.
    moved = sizes.entries * (row + 8) + sizes.nodes * row
    copied = copy_bandwidth(find_target(), 3)
    chosen = choose_backend("auto", num_entries=sizes.entries).name
    say(graph=sizes._asdict(), auto=chosen, moved_bytes=moved, copy_bandwidth=copied)
    found: dict[str, Any] = {}
    # The choice and its rivals first; what never ran on hardware last.
    ready = {name: one for name, one in contenders().items() if name.isalpha()}
    for name in sorted(ready, key=lambda one: (one == "pallas", one != chosen)):
        contender = ready[name]
        if contender.obstacle is not None:
            found[name] = {"obstacle": contender.obstacle}
            say(storages=found)
            continue
        if time.monotonic() - began > 0.8 * given.seconds:
            found[name] = {"skipped": "the stage's time was over"}
            say(storages=found)
            continue
        try:
            found[name] = _storage(contender, problem, TASKS, given.rounds)
            forward = found[name]["seconds"]["forward"]
            found[name]["bandwidth"] = moved / forward
            found[name]["bandwidth_over_copy"] = moved / forward / copied
        except Exception as error:
            found[name] = {"error": _line(error)}
        say(storages=found)
        jax.clear_caches()
        times = {one: of["seconds"]["forward"] for one, of in found.items() if "seconds" in of}
        if chosen in times:
            fastest = min(times, key=lambda one: times[one])
            say(fastest=fastest, auto_over_fastest=times[chosen] / times[fastest])


def _storage(contender: Any, problem: Any, tasks: Any, rounds: int) -> dict[str, Any]:
    start = time.perf_counter()
    started = contender.start(problem)
    compiled = time.perf_counter() - start
    errors = {
        task: problem.difference(task, started.calls[task](), rows=started.rows) for task in tasks
    }
    samples = alternate(started.calls, rounds=rounds)
    return {
        "errors": errors,
        "seconds": {task: statistics.median(values) for task, values in samples.items()},
        "samples": samples,
        "ready_seconds": compiled,
    }


def torch_sparse(given: Given) -> None:
    """Ã of the same graph in PyTorch's COO and CSR, on the GPU, beside what ``auto`` takes.

    Args:
        given: what is asked for.
    """
    import numpy as np
    import torch

    from benchmarks.peers.torch_sparse import csr_from_coo
    from benchmarks.workloads.diffusion_contenders import Problem
    from benchmarks.workloads.diffusion_contenders import storages as contenders
    from lightgcn_jax.diffusion.choice import choose_backend

    gpu = torch.cuda.is_available()
    where = torch.device("cuda" if gpu else "cpu")
    problem = Problem(graph_of(given), _DIM)
    name = choose_backend("auto", num_entries=problem.sizes.entries).name
    ours = contenders()[name].start(problem)
    matrix = problem.matrix
    rows = np.repeat(np.arange(matrix.shape[0]), matrix.lengths)
    places = torch.as_tensor(np.stack([rows, matrix.columns.astype(np.int64)]))
    values = torch.as_tensor(matrix.weights.astype(np.float32))
    coo = torch.sparse_coo_tensor(places, values, matrix.shape).coalesce().to(where)
    csr, x = csr_from_coo(coo), torch.as_tensor(problem.x).to(where)

    def timed(product: Callable[[], Any]) -> Callable[[], Any]:
        def call() -> Any:
            result = product()
            if gpu:
                torch.cuda.synchronize()
            return result

        return call

    calls = {
        f"auto ({name})": ours.calls["forward"],
        "torch COO": timed(lambda: torch.sparse.mm(coo, x)),
        "torch CSR": timed(lambda: csr @ x),
    }
    errors = {
        one: problem.difference(
            "forward", calls[one]() if one.startswith("auto") else calls[one]().cpu().numpy()
        )
        for one in calls
    }
    say(device=str(where), errors=errors)
    samples = alternate(calls, rounds=given.rounds)
    medians = {one: statistics.median(values) for one, values in samples.items()}
    say(
        seconds=medians,
        samples=samples,
        torch_csr_over_auto=medians["torch CSR"] / medians[f"auto ({name})"],
        torch_coo_over_auto=medians["torch COO"] / medians[f"auto ({name})"],
    )


def epoch(given: Given) -> None:
    """LightGCN's epoch with the default settings.

    Args:
        given: what is asked for.
    """
    import jax

    from benchmarks.workloads.compiled_steps import CompiledSteps
    from lightgcn_jax.graph.bipartite import training_graph
    from lightgcn_jax.settings import TrainConfig
    from lightgcn_jax.training import StepInputs

    split, name = split_of(given)
    config = TrainConfig()
    graph = training_graph(split)
    steps = CompiledSteps(config, StepInputs.of(graph, config.strategies))
    say(data=name, edges=graph.num_edges, compile_seconds=steps.compile_seconds)
    samples = alternate({"steps": steps}, rounds=given.rounds)["steps"]
    step = statistics.median(samples) / steps.steps
    count = -(-graph.num_edges // config.optimization.batch_size)
    say(step_seconds=step, epoch_seconds=step * count, steps_an_epoch=count, samples=samples)
    stats = jax.local_devices()[0].memory_stats() or {}
    say(peak_bytes=stats.get("peak_bytes_in_use"))


def ranking(given: Given) -> None:
    """All items ranked for the users of the test part, from LightGCN's initial vectors.

    Args:
        given: what is asked for.
    """
    import jax

    from lightgcn_jax.diffusion import diffusion_operator
    from lightgcn_jax.evaluation import InnerProduct, evaluate
    from lightgcn_jax.graph import csr_rows
    from lightgcn_jax.graph.bipartite import training_graph
    from lightgcn_jax.models import LightGCN, split_nodes

    split, name = split_of(given)
    graph, model = training_graph(split), LightGCN()
    params = model.init(jax.random.key(0), graph.num_nodes)
    vectors = jax.jit(model.apply)(params, diffusion_operator(graph))
    scorer = InnerProduct(*split_nodes(vectors, graph.num_users))
    relevant = csr_rows(split.test.users, split.test.items, len(split.users))

    def ranked() -> Any:
        return evaluate(scorer, relevant, ks=(20,), seen=graph.items_of_user)

    metrics = ranked().metrics
    samples = alternate({"ranking": ranked}, rounds=given.rounds, warmups=0)["ranking"]
    users = len(set(split.test.users.tolist()))
    seconds = statistics.median(samples)
    say(data=name, users=users, items=graph.num_items, seconds=seconds, samples=samples)
    say(users_a_second=users / seconds, recall_of_random_vectors=metrics["recall@20"])


def pinsage(given: Given) -> None:
    """PinSAGE's training step with the default settings, and all items layer by layer.

    Args:
        given: what is asked for.
    """
    import dataclasses

    from benchmarks.workloads.pins_100k import graph_100k
    from benchmarks.workloads.pinsage_steps import STEPS, Items, Steps
    from pinsage_jax.config import PinSageConfig

    start = time.perf_counter()
    items = Items(graph_100k(scale=100 if given.tiny else 1))
    say(items=items.items, table_seconds=time.perf_counter() - start)
    config = PinSageConfig()
    if given.tiny:
        config = dataclasses.replace(config, batch_size=64, dim=16, negatives=16)
    start = time.perf_counter()
    steps = Steps(items, config)
    call = steps.epoch(0)
    call()
    say(ready_seconds=time.perf_counter() - start, batch_size=config.batch_size)
    samples = alternate({"steps": call}, rounds=given.rounds)["steps"]
    say(step_seconds=statistics.median(samples) / STEPS, samples=samples)


def quality(given: Given) -> None:
    """The preset ``fast`` against the clock: recall of validation as training goes on.

    Args:
        given: what is asked for.
    """
    from lightgcn_jax.data.protocol import apply_protocol
    from lightgcn_jax.evaluation.parts import evaluation_sets
    from lightgcn_jax.evaluation.popularity import popularity_figures
    from lightgcn_jax.interrupts import Interrupted
    from lightgcn_jax.runs import SilentReporter, fit
    from lightgcn_jax.settings import PRESETS
    from lightgcn_jax.settings.names import replaced

    began = time.monotonic()
    split, name = split_of(given)
    split = apply_protocol(split, "strict")
    changed: dict[str, Any] = {"evaluate_every": 1, "ks": (20,), "protocol": "strict"}
    changed |= {"select_by": "recall@20"}
    if given.tiny:
        changed |= {"epochs": 3, "dim": 16}
    config = replaced(PRESETS["fast"], changed, "", "accelerator")
    popular = popularity_figures(evaluation_sets(split), "valid", (20,))
    say(data=name, popularity_on_validation=popular)
    curve: list[dict[str, float]] = []

    class Clock(SilentReporter):
        def evaluated(self, records: Any, *, improved: bool) -> None:
            del improved
            recall = records[0]["valid"]["recall@20"]
            seconds = round(time.monotonic() - began, 2)
            curve.append({"seconds": seconds, "epoch": records[0]["epoch"], "recall@20": recall})
            say(curve=curve)
            if seconds > 0.85 * given.seconds:
                raise KeyboardInterrupt

    try:
        result = fit(split, config, reporter=Clock())
    except (KeyboardInterrupt, Interrupted):
        say(ended="by the clock")
        return
    say(
        ended=result.summary["stopped_by"],
        train_seconds=result.summary["train_seconds"],
        compile_seconds=result.summary["compile_seconds"],
        test=result.summary["test"],
    )


def _line(error: BaseException) -> str:
    text = " ".join(str(error).split()) or type(error).__name__
    return f"{type(error).__name__}: {text[:300]}"


RUN = {
    "device": device,
    "storages": storages,
    "torch": torch_sparse,
    "epoch": epoch,
    "ranking": ranking,
    "pinsage": pinsage,
    "quality": quality,
}


def _main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", choices=RUN)
    parser.add_argument("--seconds", type=float, required=True)
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--tiny", action="store_true")
    parser.add_argument("--data-dir", type=Path)
    args = parser.parse_args()
    try:
        import jax

        # On a CPU the papers' sizes would take the minutes of all stages.
        tiny = args.tiny or jax.default_backend() == "cpu"
        RUN[args.stage](Given(args.seconds, args.rounds, tiny, args.data_dir))
    except ModuleNotFoundError as error:
        print(f"no module {error.name}")
        return 1
    except Exception as error:
        print(_line(error))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
