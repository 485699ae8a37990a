"""A training step of NGCF on Gowalla, ours against PyTorch's: a part of ``train_step``.

The same mathematics from the same numbers. PyTorch's makes every layer for all nodes, as its ports
do; ours makes the last layer only for the nodes of the batch, which changes no number.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from functools import partial

import jax
import numpy as np

from benchmarks.harness.report import alternate, note
from benchmarks.peers.torch_lightgcn import Trainer, batch_rows
from benchmarks.peers.torch_ngcf import SymmetricNGCF, TorchNGCF, Weights
from benchmarks.workloads.chunk import Chunk
from benchmarks.workloads.gowalla import draw_batches
from lightgcn_jax.models import ngcf
from lightgcn_jax.models.ngcf import NGCFParams
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training.step import Run

OURS, PEER, STRONG = "our NGCF step", "PyTorch's NGCF step", "the same, CSR with Ã symmetric"


def ngcf_samples(
    config: TrainConfig, run: Run, as_given: Run, rounds: int
) -> dict[str, list[float]]:
    """Time a step of ours, of PyTorch's, and of PyTorch's with CSR and Ã known symmetric.

    Args:
        config: of LightGCN's step; all but the model stays.
        run: the workload with its rows in the order that training takes.
        as_given: the workload with its rows as the ids come, which PyTorch's step has.
        rounds: samples of each.

    Returns:
        Contender -> seconds of a step.
    """
    config = dataclasses.replace(config, model="ngcf")
    ours = Chunk(config, run)

    def step_of(model: type[TorchNGCF], run: Run) -> Callable[[], float]:
        params = ngcf.init(jax.random.key(config.seed), run.graph.num_nodes, config.shape)
        [batch] = draw_batches(run, config, 1)
        peer = model(run.graph, np.asarray(params.table), weights_of(params, config.layers))
        return partial(Trainer(peer, config.learning_rate, config.l2).step, *batch_rows(batch))

    note(f"{rounds} rounds of NGCF against PyTorch")
    contenders = {
        OURS: ours,
        PEER: step_of(TorchNGCF, as_given),
        STRONG: step_of(SymmetricNGCF, run),
    }
    samples = alternate(contenders, rounds=rounds)
    samples[OURS] = [seconds / ours.steps for seconds in samples[OURS]]
    return samples


def weights_of(params: NGCFParams, layers: int) -> Weights:
    """Our matrices as PyTorch's model takes them.

    Args:
        params: ours.
        layers: K.

    Returns:
        Kernels ``float32[D_k, D_k+1]`` of each layer.
    """
    kernels: Mapping[str, Mapping[str, jax.Array]] = params.weights["params"]
    return Weights(
        *(
            [np.asarray(kernels[f"{name}_{k}"]["kernel"]) for k in range(layers)]
            for name in ("sum", "product")
        )
    )
