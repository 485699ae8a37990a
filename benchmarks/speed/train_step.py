"""A training step of Gowalla, LightGCN's and NGCF's, ours against PyTorch, and where ours goes.

Ours is a call of the compiled steps divided by their number; it draws its batches, losses and Adam
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
from benchmarks.workloads.compiled_steps import CompiledSteps
from benchmarks.workloads.gowalla import Workload, draw_batches, lightgcn_of, load_gowalla
from lightgcn_jax.diffusion import diffuse
from lightgcn_jax.files import scratch_folder
from lightgcn_jax.models import LightGCN
from lightgcn_jax.settings import PRESETS, TrainConfig, flat
from lightgcn_jax.training import StepInputs

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
    memory = Claim("peak_rss_gb", None, "GB", "<=", 0.9, reason="left out by --skip-memory")
    if not args.skip_memory:
        note("one epoch through the command line, for its peak memory")
        memory = _peak_memory(args.data_dir)
    workload = load_gowalla(args.data_dir, "auto")
    inputs = StepInputs.of(workload.graph, config.strategies)
    given = load_gowalla(args.data_dir)
    as_given = StepInputs.of(given.graph, config.strategies)
    torch.set_num_threads(cores())
    note("compiling")
    ours, model = CompiledSteps(config, inputs), lightgcn_of(config)
    without_layers = dataclasses.replace(config, model=dataclasses.replace(model, layers=0))
    bare = CompiledSteps(without_layers, inputs)
    note(f"{args.rounds} rounds against PyTorch")
    contenders = {
        _OURS: ours,
        _PEER: _peer_step(TorchLightGCN, config, as_given),
        _STRONG: _peer_step(SymmetricLightGCN, config, inputs),
    }
    samples = alternate(contenders, rounds=args.rounds)
    samples[_OURS] = [seconds / ours.steps for seconds in samples[_OURS]]
    note(f"{args.rounds} rounds of our parts")
    parts = alternate(
        {_OURS: ours, _DIFFUSION: _applications(model, workload), _NO_LAYERS: bare},
        rounds=args.rounds,
    )
    whole = [seconds / ours.steps for seconds in parts.pop(_OURS)]
    parts[_NO_LAYERS] = [seconds / bare.steps for seconds in parts[_NO_LAYERS]]
    breakdown = _breakdown(whole, parts)
    of_ngcf = ngcf_samples(config, inputs, as_given, args.rounds)
    reason = doubt("training step", samples[_PEER], samples[_OURS], args.peer_explained)
    return Report(
        name="train_step",
        settings={
            "dataset": "gowalla",
            "config": flat(config),
            "steps_per_call": ours.steps,
            "rounds": args.rounds,
            "peer": "torch.sparse.mm on COO, autograd, torch Adam; batch already drawn",
            "strong_peer": "CSR, derivative of a symmetric Ã, torch Adam; rows as ours has them",
            "peer_explained": args.peer_explained,
        },
        samples=samples | {"our step, beside its parts": whole} | parts | of_ngcf,
        claims=[
            ratio_claim("speedup_vs_torch_coo", samples[_PEER], samples[_OURS], ">=", 16.0, reason),
            ratio_claim(
                "speedup_vs_torch_csr_symmetric",
                samples[_STRONG],
                samples[_OURS],
                ">=",
                2.0,
                doubt(
                    "training step, csr-symmetric",
                    samples[_STRONG],
                    samples[_OURS],
                    args.peer_explained,
                ),
            ),
            ratio_claim(
                "ngcf_speedup_vs_torch",
                of_ngcf[ngcf_step.PEER],
                of_ngcf[ngcf_step.OURS],
                ">=",
                3.0,
                reason,
            ),
            ratio_claim(
                "ngcf_speedup_vs_torch_symmetric",
                of_ngcf[ngcf_step.STRONG],
                of_ngcf[ngcf_step.OURS],
                ">=",
                2.2,
                reason,
            ),
            memory,
        ],
        details={
            "compile_seconds": ours.compile_seconds,
            "breakdown_seconds": breakdown,
            "diffusion_share": breakdown["diffusion"] / statistics.median(whole),
        },
        threads={"torch": torch.get_num_threads(), "jax": cores()},
        tables=[_breakdown_table(model.layers, breakdown, ours.compile_seconds)],
    )


def _peer_step(
    peer: type[TorchLightGCN], config: TrainConfig, inputs: StepInputs
) -> Callable[[], float]:
    model, rates = lightgcn_of(config), config.optimization
    table = model.init(jax.random.key(config.seed), inputs.graph.num_nodes).table
    [batch] = draw_batches(inputs, config, 1)
    trainer = Trainer(
        peer(inputs.graph, np.asarray(table), model.layers), rates.learning_rate, rates.l2
    )
    return partial(trainer.step, *batch_rows(batch))


def _applications(model: LightGCN, workload: Workload) -> Callable[[], Any]:
    """As many applications of Ã as a step has, forward and backward, one after another."""

    @jax.jit
    def chain(operator, x):
        # No loop, which would copy the result of each turn.
        for _ in range(2 * model.layers):
            x = diffuse(operator, x)
        return x

    x = jnp.ones((workload.graph.num_nodes, model.dim), jnp.float32)
    return lambda: jax.block_until_ready(chain(workload.operator, x))


def _breakdown(whole: list[float], parts: dict[str, list[float]]) -> dict[str, float]:
    total = statistics.median(whole)
    diffusion = statistics.median(parts[_DIFFUSION])
    rows = statistics.median(parts[_NO_LAYERS])
    return {"diffusion": diffusion, "without_layers": rows, "rest": total - diffusion - rows}


def _breakdown_table(layers: int, breakdown: dict[str, float], compile_seconds: float) -> Table:
    table = Table("part of our step", "time", "share", title="where the time goes")
    labels = {
        "diffusion": f"{2 * layers} applications of Ã",
        "without_layers": "sampling, loss, Adam (the step with 0 layers)",
        "rest": "rest: sums over layers, and what the parts lack",
    }
    total = sum(breakdown.values())
    for part, label in labels.items():
        table.add_row(label, seconds_text(breakdown[part]), f"{breakdown[part] / total:.0%}")
    table.caption = f"compiled once, in {seconds_text(compile_seconds)}"
    return table


def _peak_memory(data_dir: Path | None) -> Claim:
    """Train an epoch of Gowalla in a process of its own, evaluation included."""
    with scratch_folder() as folder:
        command: list[str | os.PathLike] = [sys.executable, "-m", "lightgcn_jax", "train"]
        command += ["--dataset", "gowalla", "--preset", "paper", "--epochs", "1"]
        command += ["--out", folder / "run"]
        if data_dir is not None:
            command += ["--data-dir", data_dir.resolve()]
        ended = run_measured(command)
    claim = partial(Claim, "peak_rss_gb", unit="GB", relation="<=", target=0.9)
    if ended.status != 0:
        return claim(value=None, reason=f"the training run failed: {ended.last_words()}")
    return claim(value=ended.peak_gb)
