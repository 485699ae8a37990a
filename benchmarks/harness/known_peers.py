"""What is known of the peers' speed, and when a run must not claim anything against them.

A peer that is slower than it is known to be flatters us: it may be badly installed, or its threads
may have met others. A machine that is slower or busier slows both sides down. So a claim is judged
where the peer is about as fast as known, or where ours, in the same alternation, has slowed down as
much as the peer has.
"""

from __future__ import annotations

import statistics
from argparse import ArgumentParser
from collections.abc import Sequence
from typing import NamedTuple


class Known(NamedTuple):
    """The times of one alternation.

    Attributes:
        peer: what the peer took, in seconds.
        ours: what ours took beside it.
    """

    peer: float
    ours: float


KNOWN = {
    "training step": Known(0.478, 0.0265),
    "training step, csr-symmetric": Known(0.119, 0.0265),
    "evaluation, batch 2048": Known(9.27, 0.888),
    "evaluation, batch 100": Known(71.6, 0.888),
    "score products": Known(0.908, 0.888),
    "forward, torch-csr": Known(0.0138, 0.00417),
    "forward, gather-reduce": Known(0.0066, 0.00417),
    "forward, gather-reduce in bfloat16": Known(0.00267, 0.00211),
    "forward, segment": Known(0.114, 0.0162),
    "k3, torch-csr": Known(0.266, 0.0379),
    "k3, torch-csr-symmetric": Known(0.0843, 0.0379),
    "k3, torch-coo": Known(0.447, 0.0379),
}
"""On Gowalla, two quiet cores of an AMD EPYC with AVX-512: LightGCN-PyTorch's step of 2,048 rows
and its evaluation of 29,858 users, the score products alone in JAX, and at D = 64 an application of
Ã and three of them forward and backward."""

TOLERATED_SLOWNESS = 1.25


def doubt(
    peer: str, samples: Sequence[float], ours: Sequence[float], explained: str | None = None
) -> str | None:
    """Why a claim against this peer cannot be made, or None.

    Args:
        peer: a key of :data:`KNOWN`.
        samples: the peer's times in this run, in seconds.
        ours: what ours took in the same alternation.
        explained: the user's explanation of a slow peer, which lets the claims stand.

    Returns:
        The reason in words for a reader, or None where there is no doubt.
    """
    known, median = KNOWN[peer], statistics.median(samples)
    slowness = median / known.peer
    of_the_machine = max(1.0, statistics.median(ours) / known.ours)
    if explained or slowness <= TOLERATED_SLOWNESS * of_the_machine:
        return None
    return (
        f"the peer's {peer} took {median:.3g} s, {slowness - 1:.0%} more than the {known.peer} s "
        f"known of it, and ours {of_the_machine - 1:.0%} more: find out why (--peer-explained) or "
        "run again"
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
