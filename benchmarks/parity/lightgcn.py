"""Whether our numbers are PyTorch's: parameters after training from one table on one list of
batches, and metrics of one set of embeddings.

The batches are drawn once, by our sampler, and handed to both. With ``--lightgcn-pytorch`` the peer
is LightGCN-PyTorch's own code in place of our writing of it.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import NamedTuple, Protocol

import jax
import jax.numpy as jnp
import numpy as np
import torch
from numpy.typing import ArrayLike

from benchmarks.harness.report import Claim, Report, cores, note, whole_number
from benchmarks.peers import torch_lightgcn as torch_peer
from benchmarks.workloads.gowalla import Workload, draw_batches, lightgcn_of, load_gowalla
from lightgcn_jax.evaluation import InnerProduct, evaluate
from lightgcn_jax.graph import BipartiteGraph
from lightgcn_jax.models import split_nodes
from lightgcn_jax.models.lightgcn import LightGCNParams
from lightgcn_jax.settings import PRESETS, TrainConfig, flat
from lightgcn_jax.training import (
    Batch,
    Params,
    StepInputs,
    TrainState,
    make_optimizer,
    train_step,
)

_CUTOFF, _TEST_BATCH = 20, 2048


class Peer(Protocol):
    """A model that trains on batches and ranks given embeddings."""

    def step(self, users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> float:
        """Take one step.

        Args:
            users: ``int64[B]`` rows.
            positives: ``int64[B]`` rows of items.
            negatives: ``int64[B]`` rows of items.

        Returns:
            The total loss before the step.
        """
        ...

    def table(self) -> np.ndarray:
        """The layer-0 embeddings ``float[N, D]``, users first."""
        ...

    def evaluate(self, user_vectors: ArrayLike, item_vectors: ArrayLike) -> torch_peer.PeerMetrics:
        """Rank given final embeddings.

        Args:
            user_vectors: ``float[U, D]``.
            item_vectors: ``float[I, D]``.

        Returns:
            Metrics at the cut-off.
        """
        ...


class Trained(NamedTuple):
    """What training leaves.

    Attributes:
        table: ``float[N, D]``, the layer-0 embeddings after all batches.
        losses: ``float[steps]``, the total loss before each step.
    """

    table: np.ndarray
    losses: np.ndarray


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks parity``.
    """
    parser.add_argument(
        "--steps", type=whole_number, default=250, help="steps to train (default 250)"
    )
    parser.add_argument(
        "--lightgcn-pytorch",
        type=Path,
        metavar="CHECKOUT",
        help="a writable checkout of LightGCN-PyTorch, whose code becomes the peer",
    )


def run(args: argparse.Namespace) -> Report:
    """Compare; see the module.

    Args:
        args: the parsed options.

    Returns:
        The differences of parameters and metrics, and what is claimed of them.
    """
    config = PRESETS["paper"]
    workload = load_gowalla(args.data_dir)
    torch.set_num_threads(cores())
    key, model = jax.random.key(config.seed), lightgcn_of(config)
    table = np.asarray(model.init(key, workload.graph.num_nodes).table)
    peer = _peer(args.lightgcn_pytorch, workload, table, config)
    inputs = StepInputs.of(workload.graph, config.strategies)
    batches = draw_batches(inputs, config, args.steps)
    note(f"{args.steps} steps of ours")
    ours = train_ours(table, batches, inputs, config)
    note(f"{args.steps} steps of PyTorch's")
    theirs = train_peer(peer, batches)
    note("both evaluations of our embeddings")
    final = model.apply(LightGCNParams(jnp.asarray(ours.table)), workload.operator)
    vectors = split_nodes(final, workload.graph.num_users)
    seen = workload.graph.items_of_user
    metrics = evaluate(InnerProduct(*vectors), workload.relevant, ks=(_CUTOFF,), seen=seen).metrics
    peer_metrics = peer.evaluate(*vectors)._asdict()
    differences = {name: metrics[f"{name}@{_CUTOFF}"] - peer_metrics[name] for name in peer_metrics}
    change = relative_difference(ours.table - table, theirs.table - table)
    return Report(
        name="parity",
        settings={
            "dataset": "gowalla",
            "config": flat(config),
            "steps": args.steps,
            "peer": "our writing" if args.lightgcn_pytorch is None else "LightGCN-PyTorch",
        },
        samples={},
        claims=[
            Claim("params_change_rel_diff", change, "", "<", 1e-4),
            *(
                Claim(f"{name}_at_{_CUTOFF}_abs_diff", abs(difference), "", "<", 1e-5)
                for name, difference in differences.items()
            ),
        ],
        details={
            "loss_largest_rel_diff": float(np.abs(ours.losses / theirs.losses - 1).max()),
            "losses": {"ours": ours.losses.tolist(), "peer": theirs.losses.tolist()},
            "metrics": {name: metrics[f"{name}@{_CUTOFF}"] for name in peer_metrics},
            "peer_metrics": peer_metrics,
        },
        threads={"torch": torch.get_num_threads(), "jax": cores()},
    )


class OwnPeer:
    """Our writing of LightGCN-PyTorch.

    Args:
        graph: the training pairs.
        rows: what its evaluation reads.
        table: ``float[N, D]`` initial layer-0 embeddings.
        config: the settings of the run.
    """

    def __init__(
        self,
        graph: BipartiteGraph,
        rows: torch_peer.Rows,
        table: np.ndarray,
        config: TrainConfig,
    ):
        rates = config.optimization
        self._model = torch_peer.TorchLightGCN(graph, table, lightgcn_of(config).layers)
        self._rows = rows
        self.step = torch_peer.Trainer(self._model, rates.learning_rate, rates.l2).step
        self.table = self._model.table

    def evaluate(self, user_vectors: ArrayLike, item_vectors: ArrayLike) -> torch_peer.PeerMetrics:
        """Rank given final embeddings.

        Args:
            user_vectors: ``float[U, D]``.
            item_vectors: ``float[I, D]``.

        Returns:
            Metrics at the cut-off.
        """
        rating = torch_peer.fixed_rating(user_vectors, item_vectors)
        return torch_peer.evaluate(rating, self._rows, k=_CUTOFF, batch_size=_TEST_BATCH)


def train_ours(
    table: np.ndarray, batches: list[Batch], inputs: StepInputs, config: TrainConfig
) -> Trained:
    """Train with our ``train_step``, batch by batch.

    Args:
        table: ``float[N, D]`` initial layer-0 embeddings.
        batches: the same that the peer gets.
        inputs: what the steps read.
        config: the settings of the run.

    Returns:
        The embeddings and the losses.
    """
    strategies = config.strategies
    optimizer = make_optimizer(strategies.optimization, len(batches))
    params = Params(LightGCNParams(jnp.array(table)))
    state = TrainState(params, optimizer.init(params), jnp.zeros((), jnp.int32))
    step = jax.jit(train_step, static_argnames=("strategies", "optimizer"), donate_argnums=0)
    losses = []
    for batch in batches:
        state, loss = step(state, batch, inputs, strategies=strategies, optimizer=optimizer)
        losses.append(float(loss.total))
    return Trained(np.asarray(state.params.model.table), np.array(losses))


def train_peer(peer: Peer, batches: list[Batch]) -> Trained:
    """Train the peer, batch by batch.

    Args:
        peer: its parameters are changed in place.
        batches: the same that ours gets.

    Returns:
        The embeddings and the losses.
    """
    losses = []
    for batch in batches:
        losses.append(peer.step(*torch_peer.batch_rows(batch)))
    return Trained(peer.table(), np.array(losses))


def relative_difference(ours: np.ndarray, theirs: np.ndarray) -> float:
    """‖ours − theirs‖ / ‖theirs‖, summed in float64.

    Args:
        ours: an array.
        theirs: an array of the same shape.

    Returns:
        The ratio of Euclidean norms.
    """
    difference = np.linalg.norm(ours.astype(np.float64) - theirs)
    return float(difference / np.linalg.norm(theirs.astype(np.float64)))


def _peer(
    checkout: Path | None, workload: Workload, table: np.ndarray, config: TrainConfig
) -> Peer:
    if checkout is None:
        graph = workload.graph
        rows = torch_peer.peer_rows(graph.items_of_user, workload.relevant, graph.num_items)
        return OwnPeer(graph, rows, table, config)
    from benchmarks.peers.lightgcn_pytorch_checkout import CheckoutPeer

    return CheckoutPeer(checkout, workload, table, config, _TEST_BATCH)
