"""A training step of Gowalla, LightGCN's and NGCF's, ours against PyTorch, and where ours goes.

Ours is the compiled chunk of an epoch divided by its steps: it draws its batches, losses and Adam
included. The peers are handed a batch already drawn, which is generous: LightGCN-PyTorch's sampling
takes seconds an epoch beside the steps. There are two of them. One is written as LightGCN-PyTorch
is, with Ã in COO and the rows as the ids come. The strong one is the best that PyTorch can do: Ã in
CSR, a derivative that knows Ã to be symmetric, and the rows in the order in which ours has them.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import torch
from rich.table import Table

from benchmarks.harness.known_peers import doubt, peer_explained_option
from benchmarks.harness.process import run_measured
from benchmarks.harness.report import (
    Claim,
    Report,
    alternate,
    cores,
    note,
    ratio_claim,
    ratio_of_medians,
    seconds_text,
    whole_number,
)
from benchmarks.peers.torch_lightgcn import (
    SymmetricLightGCN,
    TorchLightGCN,
    Trainer,
    batch_rows,
)
from benchmarks.speed import ngcf_step
from benchmarks.speed.ngcf_step import ngcf_samples
from benchmarks.workloads.chunk import Chunk
from benchmarks.workloads.gowalla import Workload, draw_batches, load_gowalla
from lightgcn_jax.diffusion import diffuse
from lightgcn_jax.models import lightgcn
from lightgcn_jax.settings import PRESETS, TrainConfig
from lightgcn_jax.training.step import (
    Run,
)

_OURS, _PEER = "our step", "PyTorch's step"
_STRONG = "PyTorch's step, CSR with Ã symmetric"
_DIFFUSION, _NO_LAYERS = "applications of Ã", "our step without layers"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks train_step``.
    """
    parser.add_argument(
        "--rounds", type=whole_number, default=20, help="samples of each (default 20)"
    )
    parser.add_argument(
        "--skip-memory", action="store_true", help="leave out the training run for peak memory"
    )
    peer_explained_option(parser)


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of a step, ours and the peers', and what is claimed of them.
    """
    config = PRESETS["paper"]
    memory = Claim("peak_rss_gb", None, "GB", "<", 1.5, reason="left out by --skip-memory")
    if not args.skip_memory:
        note("one epoch through the command line, for its peak memory")
        memory = _peak_memory(args.data_dir)
    workload = load_gowalla(args.data_dir, "auto")
    data = Run.of(workload.graph, workload.operator, config)
    given = load_gowalla(args.data_dir)
    as_given = Run.of(given.graph, given.operator, config)
    torch.set_num_threads(cores())
    note("compiling")
    ours = Chunk(config, data)
    bare = Chunk(dataclasses.replace(config, layers=0), data)
    note(f"{args.rounds} rounds against PyTorch")
    contenders = {
        _OURS: ours,
        _PEER: _peer_step(TorchLightGCN, config, as_given),
        _STRONG: _peer_step(SymmetricLightGCN, config, data),
    }
    samples = alternate(contenders, rounds=args.rounds)
    samples[_OURS] = [seconds / ours.steps for seconds in samples[_OURS]]
    note(f"{args.rounds} rounds of our parts")
    parts = alternate(
        {"chunk": ours, _DIFFUSION: _applications(config, workload), _NO_LAYERS: bare},
        rounds=args.rounds,
    )
    whole = [seconds / ours.steps for seconds in parts.pop("chunk")]
    parts[_NO_LAYERS] = [seconds / bare.steps for seconds in parts[_NO_LAYERS]]
    breakdown = _breakdown(whole, parts)
    of_ngcf = ngcf_samples(config, data, as_given, args.rounds)
    reason = doubt("training step", samples[_PEER], args.peer_explained)
    return Report(
        name="train_step",
        settings={
            "dataset": "gowalla",
            "config": dataclasses.asdict(config),
            "steps_per_chunk": ours.steps,
            "rounds": args.rounds,
            "peer": "torch.sparse.mm on COO, autograd, torch Adam; batch already drawn",
            "strong_peer": "CSR, derivative of a symmetric Ã, torch Adam; rows as ours has them",
            "peer_explained": args.peer_explained,
        },
        samples=samples | {"our step, beside its parts": whole} | parts | of_ngcf,
        claims=[
            ratio_claim("speedup_vs_torch_coo", samples[_PEER], samples[_OURS], ">=", 5.0, reason),
            ratio_claim(
                "speedup_vs_torch_csr_symmetric",
                samples[_STRONG],
                samples[_OURS],
                ">=",
                1.0,
                doubt("training step, csr-symmetric", samples[_STRONG], args.peer_explained),
            ),
            ratio_claim(
                "ngcf_speedup_vs_torch",
                of_ngcf[ngcf_step.PEER],
                of_ngcf[ngcf_step.OURS],
                ">=",
                3.0,
                reason,
            ),
            memory,
        ],
        details={
            "compile_seconds": ours.compile_seconds,
            "breakdown_seconds": breakdown,
            "diffusion_share": breakdown["diffusion"] / statistics.median(whole),
            "ngcf_speedup_vs_torch_csr_symmetric": ratio_of_medians(
                of_ngcf[ngcf_step.STRONG], of_ngcf[ngcf_step.OURS]
            )._asdict(),
        },
        threads={"torch": torch.get_num_threads(), "jax": cores()},
        tables=[_breakdown_table(config, breakdown, ours.compile_seconds)],
    )


def _peer_step(model: type[TorchLightGCN], config: TrainConfig, run: Run) -> Callable[[], float]:
    key = jax.random.key(config.seed)
    table = lightgcn.init(key, run.graph.num_nodes, config.shape).table
    peer = model(run.graph, np.asarray(table), config.layers)
    [batch] = draw_batches(run, config, 1)
    return partial(Trainer(peer, config.learning_rate, config.l2).step, *batch_rows(batch))


def _applications(config: TrainConfig, workload: Workload) -> Callable[[], Any]:
    """As many applications of Ã as a step has, forward and backward, one after another."""

    @jax.jit
    def chain(operator, x):
        return jax.lax.fori_loop(0, 2 * config.layers, lambda _, y: diffuse(operator, y), x)

    x = jnp.ones((workload.graph.num_nodes, config.dim), jnp.float32)
    return lambda: jax.block_until_ready(chain(workload.operator, x))


def _breakdown(whole: list[float], parts: dict[str, list[float]]) -> dict[str, float]:
    total = statistics.median(whole)
    diffusion = statistics.median(parts[_DIFFUSION])
    rows = statistics.median(parts[_NO_LAYERS])
    return {"diffusion": diffusion, "without_layers": rows, "rest": total - diffusion - rows}


def _breakdown_table(
    config: TrainConfig, breakdown: dict[str, float], compile_seconds: float
) -> Table:
    table = Table("part of our step", "time", "share", title="where the time goes")
    labels = {
        "diffusion": f"{2 * config.layers} applications of Ã",
        "without_layers": "sampling, loss, Adam (the step with 0 layers)",
        "rest": "rest: sums over layers and what the parts do not have alone",
    }
    total = sum(breakdown.values())
    for part, label in labels.items():
        table.add_row(label, seconds_text(breakdown[part]), f"{breakdown[part] / total:.0%}")
    table.caption = f"compiled once, in {seconds_text(compile_seconds)}"
    return table


def _peak_memory(data_dir: Path | None) -> Claim:
    """Train an epoch of Gowalla in a process of its own, evaluation included."""
    with tempfile.TemporaryDirectory() as folder:
        command: list[str | os.PathLike] = [sys.executable, "-m", "lightgcn_jax", "train"]
        command += ["--dataset", "gowalla", "--preset", "paper", "--epochs", "1"]
        command += ["--out", Path(folder) / "run"]
        if data_dir is not None:
            command += ["--data-dir", data_dir.resolve()]
        ended = run_measured(command)
    claim = partial(Claim, "peak_rss_gb", unit="GB", relation="<", target=1.5)
    if ended.status != 0:
        return claim(value=None, reason=f"the training run failed: {ended.last_words()}")
    return claim(value=ended.peak_gb)
