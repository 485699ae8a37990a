"""The full-ranking evaluation of Gowalla's test users, metrics included, ours against PyTorch.

Both start from the same layer-0 embeddings. Ours diffuses them once and evaluates; the peer does as
LightGCN-PyTorch does and diffuses anew for each batch of users. Beside them stand the peer with
embeddings that are diffused already, of which nothing is claimed, and the score products alone.
Both have the rows in the order that training takes.
"""

from __future__ import annotations

import argparse
import statistics
from collections.abc import Callable

import jax
import jax.numpy as jnp
import numpy as np
import torch

from benchmarks.harness.known_peers import doubt, peer_explained_option
from benchmarks.harness.report import (
    Claim,
    Report,
    alternate,
    cores,
    note,
    ratio_claim,
    ratio_of_medians,
    whole_number,
)
from benchmarks.peers import torch_lightgcn as torch_peer
from benchmarks.workloads.gowalla import Workload, load_gowalla
from lightgcn_jax.arrays import ItemTable, UserTable
from lightgcn_jax.evaluation import Evaluation, InnerProduct, evaluate
from lightgcn_jax.models import LightGCN, split_nodes
from lightgcn_jax.models.lightgcn import LightGCNParams

CUTOFF = 20
BEST_BATCH, DEFAULT_BATCH = 2048, 100

_OURS = "our evaluation"
# Users in a block of the bare products. How the allocator takes a block decides their speed by a
# factor of three, so several sizes are measured and ours is held against the fastest.
_PRODUCT_BLOCKS = (64, 96, 128, 160)
_PEER = f"PyTorch's, batch {BEST_BATCH}"
_DIFFUSED = f"PyTorch's, batch {BEST_BATCH}, already diffused"
_DEFAULT = f"PyTorch's, batch {DEFAULT_BATCH}"


def add_options(parser: argparse.ArgumentParser) -> None:
    """Add this benchmark's options.

    Args:
        parser: that of ``python -m benchmarks ranking``.
    """
    parser.add_argument(
        "--rounds", type=whole_number, default=5, help="samples of each (default 5)"
    )
    parser.add_argument(
        "--default-batch",
        action=argparse.BooleanOptionalAction,
        default=True,
        help=f"also the peer's default batch of {DEFAULT_BATCH} users, once: over a minute",
    )
    peer_explained_option(parser)


def run(args: argparse.Namespace) -> Report:
    """Measure; see the module.

    Args:
        args: the parsed options.

    Returns:
        Seconds of each evaluation, and what is claimed of them.
    """
    lightgcn = LightGCN()
    workload = load_gowalla(args.data_dir, "auto")
    graph = workload.graph
    torch.set_num_threads(cores())
    params = lightgcn.init(jax.random.key(0), graph.num_nodes)
    ours = _Ours(params, workload, lightgcn)
    users, items = ours.vectors()
    model = torch_peer.TorchLightGCN(graph, np.asarray(params.table), lightgcn.layers)
    rows = torch_peer.peer_rows(graph.items_of_user, workload.relevant, graph.num_items)

    tested = np.unique(workload.split.test.users)

    def peer(rating, batch_size=BEST_BATCH):
        return torch_peer.evaluate(rating, rows, k=CUTOFF, batch_size=batch_size)

    difference = metric_difference(ours(), peer(model.rating))
    note(f"{args.rounds} rounds")
    samples = alternate(
        {
            _OURS: ours,
            _PEER: lambda: peer(model.rating),
            _DIFFUSED: lambda: peer(torch_peer.fixed_rating(users, items)),
        }
        | {_products_name(size): _products(users, items, tested, size) for size in _PRODUCT_BLOCKS},
        rounds=args.rounds,
    )
    if args.default_batch:
        note(f"once with batches of {DEFAULT_BATCH} users")
        samples |= alternate(
            {_DEFAULT: lambda: peer(model.rating, DEFAULT_BATCH)}, rounds=1, warmups=0
        )
    return Report(
        name="ranking",
        settings={
            "dataset": "gowalla",
            "users": len(rows.relevant),
            "items": graph.num_items,
            "dim": lightgcn.dim,
            "layers": lightgcn.layers,
            "cutoff": CUTOFF,
            "product_blocks": list(_PRODUCT_BLOCKS),
            "rounds": args.rounds,
            "peer_explained": args.peer_explained,
        },
        samples=samples,
        claims=_claims(samples, difference, args.peer_explained),
        details={
            "ratio_to_torch_already_diffused": ratio_of_medians(
                samples[_DIFFUSED], samples[_OURS]
            )._asdict(),
        },
        threads={"torch": torch.get_num_threads(), "jax": cores()},
    )


def metric_difference(ours: Evaluation, peer: torch_peer.PeerMetrics) -> float:
    """Compare two evaluations.

    Args:
        ours: our metrics.
        peer: the peer's.

    Returns:
        The largest absolute difference of recall, precision and NDCG at the cut-off.
    """
    return max(
        abs(ours.metrics[f"{name}@{CUTOFF}"] - value) for name, value in peer._asdict().items()
    )


class _Ours:
    """Diffuse and evaluate, as training does between epochs."""

    def __init__(self, params: LightGCNParams, workload: Workload, lightgcn: LightGCN):
        self._params, self._workload = params, workload
        self._apply = jax.jit(lightgcn.apply)

    def vectors(self) -> tuple[UserTable, ItemTable]:
        nodes = self._apply(self._params, self._workload.operator)
        return split_nodes(nodes, self._workload.graph.num_users)

    def __call__(self) -> Evaluation:
        seen = self._workload.graph.items_of_user
        return evaluate(
            InnerProduct(*self.vectors()), self._workload.relevant, ks=(CUTOFF,), seen=seen
        )


def _products_name(block_size: int) -> str:
    return f"score products alone, {block_size} users at once"


def _products(
    users: UserTable, items: ItemTable, rows: np.ndarray, block_size: int
) -> Callable[[], None]:
    """All score products block by block, each block's scores made and dropped."""
    blocks = np.pad(rows, (0, -len(rows) % block_size), mode="edge").reshape(-1, block_size)
    queries = [users[jnp.asarray(block)] for block in blocks]
    multiply = jax.jit(lambda items, queries: items @ queries.T)

    def multiply_all() -> None:
        for block_queries in queries:
            multiply(items, block_queries).block_until_ready()

    return multiply_all


def _claims(
    samples: dict[str, list[float]], difference: float, explained: str | None
) -> list[Claim]:
    agreement = Claim("metric_difference", difference, "", "<", 1e-5)
    different = None if agreement.holds else "the two evaluations do not agree"
    ours, peer = samples[_OURS], samples[_PEER]
    products = min(
        (samples[_products_name(size)] for size in _PRODUCT_BLOCKS), key=statistics.median
    )
    peer_doubt = different or doubt(f"evaluation, batch {BEST_BATCH}", peer, ours, explained)
    products_doubt = different or doubt("score products", products, ours, explained)
    claims = [
        agreement,
        ratio_claim("speedup_vs_torch", peer, ours, ">=", 3.0, peer_doubt),
        ratio_claim("ratio_to_matmul", ours, products, "<=", 1.6, products_doubt),
    ]
    name = "speedup_vs_torch_default_batch"
    if _DEFAULT not in samples:
        claims.append(ratio_claim(name, peer, ours, ">=", 15.0, "left out by --no-default-batch"))
    else:
        default = samples[_DEFAULT]
        reason = different or doubt(f"evaluation, batch {DEFAULT_BATCH}", default, ours, explained)
        claims.append(ratio_claim(name, default, ours, ">=", 15.0, reason))
    return claims
