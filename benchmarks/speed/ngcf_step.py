"""A training step of NGCF on Gowalla, ours against PyTorch's: a part of ``train_step``.

Both compute the same mathematics from the same numbers. PyTorch's makes every layer for all nodes,
as its ports do; ours makes the last layer only for the nodes of the batch, which changes no number.
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
from benchmarks.workloads.compiled_steps import CompiledSteps
from benchmarks.workloads.gowalla import draw_batches, lightgcn_of
from lightgcn_jax.models import NGCF, TableParams
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training import StepInputs

OURS, PEER, STRONG = "our NGCF step", "PyTorch's NGCF step", "the same, CSR with Ã symmetric"


def ngcf_samples(
    config: TrainConfig, inputs: StepInputs, as_given: StepInputs, rounds: int
) -> dict[str, list[float]]:
    """Time a step of ours, of PyTorch's, and of PyTorch's with CSR and Ã known symmetric.

    Args:
        config: settings of LightGCN's step; all but the model stays.
        inputs: the workload with its rows in the order that training takes.
        as_given: the workload with its rows as the ids come, which PyTorch's step has.
        rounds: samples of each.

    Returns:
        Contender -> seconds of a step.
    """
    model = NGCF(dim=lightgcn_of(config).dim, layers=lightgcn_of(config).layers)
    config, rates = dataclasses.replace(config, model=model), config.optimization
    ours = CompiledSteps(config, inputs)

    def step_of(peer: type[TorchNGCF], inputs: StepInputs) -> Callable[[], float]:
        params = model.init(jax.random.key(config.seed), inputs.graph.num_nodes)
        table, weights = np.asarray(params.table), weights_of(params, model.layers)
        [batch] = draw_batches(inputs, config, 1)
        trainer = Trainer(peer(inputs.graph, table, weights), rates.learning_rate, rates.l2)
        return partial(trainer.step, *batch_rows(batch))

    note(f"{rounds} rounds of NGCF against PyTorch")
    contenders = {
        OURS: ours,
        PEER: step_of(TorchNGCF, as_given),
        STRONG: step_of(SymmetricNGCF, inputs),
    }
    samples = alternate(contenders, rounds=rounds)
    samples[OURS] = [seconds / ours.steps for seconds in samples[OURS]]
    return samples


def weights_of(params: TableParams, layers: int) -> Weights:
    """Our matrices as PyTorch's model takes them.

    Args:
        params: ours.
        layers: K.

    Returns:
        Kernels ``float32[D_k, D_k+1]`` of each layer.
    """
    assert params.weights is not None
    kernels: Mapping[str, Mapping[str, jax.Array]] = params.weights["params"]
    return Weights(
        *(
            [np.asarray(kernels[f"{name}_{k}"]["kernel"]) for k in range(layers)]
            for name in ("sum", "product")
        )
    )
