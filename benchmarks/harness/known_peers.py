"""What is known of the peers' speed, and when a run must not claim anything against them."""

from __future__ import annotations

import statistics
from argparse import ArgumentParser
from collections.abc import Sequence

PEER_SECONDS = {
    "training step": 0.540,
    "training step, csr-symmetric": 0.210,
    "evaluation, batch 2048": 10.7,
    "evaluation, batch 100": 78.0,
    "score products": 0.55,
    "forward, torch-csr": 0.010,
    "forward, gather-reduce": 0.0085,
    "forward, gather-reduce in bfloat16": 0.0068,
    "forward, segment": 0.136,
    "k3, torch-csr": 0.303,
    "k3, torch-csr-symmetric": 0.060,
    "k3, torch-coo": 0.546,
}
"""What the peers take on Gowalla on two quiet cores with AVX-512: LightGCN-PyTorch's step of 2,048
rows and its evaluation of 29,858 users, the score products alone in JAX, and at D = 64 an
application of Ã and three of them forward and backward. A peer that is slower in our run flatters
us."""

TOLERATED_SLOWNESS = 1.25


def doubt(peer: str, samples: Sequence[float], explained: str | None = None) -> str | None:
    """Why a claim against this peer cannot be made, or None.

    Args:
        peer: a key of :data:`PEER_SECONDS`.
        samples: the peer's times in this run, in seconds.
        explained: the user's explanation of a slow peer, which lets the claims stand.

    Returns:
        The reason in words for a reader, or None where there is no doubt.
    """
    known, median = PEER_SECONDS[peer], statistics.median(samples)
    if explained or median <= TOLERATED_SLOWNESS * known:
        return None
    return (
        f"the peer's {peer} took {median:.3g} s, {median / known - 1:.0%} more than the {known} s "
        "known of it: find out why (--peer-explained) or run again on a quiet machine"
    )


def peer_explained_option(parser: ArgumentParser) -> None:
    """Add ``--peer-explained``, for benchmarks whose claims rest on a peer of known speed.

    Args:
        parser: that of the benchmark.
    """
    parser.add_argument(
        "--peer-explained",
        metavar="WHY",
        help="why the peer is slower here than is known of it; lets the claims stand",
    )
