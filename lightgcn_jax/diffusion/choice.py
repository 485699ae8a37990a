"""Which storages there are, which of them a platform has, and which one is the fastest there."""

from __future__ import annotations

from typing import Literal, NamedTuple

import jax

from lightgcn_jax.diffusion.bucketed import BucketedStorage
from lightgcn_jax.diffusion.jax_sparse import BcooStorage, CsrStorage
from lightgcn_jax.diffusion.native import NativeStorage
from lightgcn_jax.diffusion.pallas import PallasStorage
from lightgcn_jax.diffusion.segment import SegmentStorage
from lightgcn_jax.diffusion.storage import Storage
from lightgcn_jax.errors import InputError

Backend = Literal["auto", "native", "csr", "bucketed", "pallas", "segment", "bcoo"]

OrderingChoice = Literal["auto", "none", "degree", "rcm", "co-clustering"]

Maker = type[Storage] | Storage
"""What makes a storage, by its ``from_csr``."""

STORAGES: dict[str, type[Storage]] = {
    "native": NativeStorage,
    "csr": CsrStorage,
    "bucketed": BucketedStorage,
    "pallas": PallasStorage,
    "segment": SegmentStorage,
    "bcoo": BcooStorage,
}
# Compiled for hardware that it never ran on: no `auto` takes it, and whoever asks for it is told.
_EXPERIMENTAL = ("pallas",)
# Compiled ahead of time for TPU, buckets take 10 to 20 s, a scatter takes 2.
_ENTRIES_TO_BUCKET = 20_000
# Fewer edges leave less to gain than the ordering costs: a second for a million edges.
EDGES_TO_ORDER = 300_000
"""Edges from which an order of the rows pays."""
_ORDERED = ("native", "csr")
PLATFORMS = ("cpu", "gpu", "tpu")


class Choice(NamedTuple):
    """What was taken of several, and why.

    Attributes:
        name: the name of a storage or of an ordering.
        reason: a sentence without its full stop.
    """

    name: str
    reason: str


def obstacles(platform: str) -> dict[str, str | None]:
    """Say for every storage why a platform cannot run it.

    Args:
        platform: ``cpu``, ``gpu`` or ``tpu``; it need not be at hand.

    Returns:
        A sentence for each name, None where the platform has the storage.

    Raises:
        InputError: no platform has that name.
    """
    return {name: _obstacle(storage, platform) for name, storage in STORAGES.items()}


def _obstacle(storage: Maker, platform: str) -> str | None:
    if platform not in PLATFORMS:
        raise InputError(f"platform: expected one of {PLATFORMS}, got {platform!r}")
    obstacle = getattr(storage, "obstacle", None)
    return None if obstacle is None else obstacle(platform)


def choose_backend(
    backend: str = "auto", platform: str | None = None, num_entries: int | None = None
) -> Choice:
    """Choose the storage to use on a platform.

    Args:
        backend: a name of :data:`STORAGES`, taken if the platform has it, or ``auto``. ``pallas``
            is experimental: it was never timed on hardware, and ``auto`` never takes it.
        platform: ``cpu``, ``gpu`` or ``tpu``; by default the one that JAX runs on.
        num_entries: how many entries the matrix has; None for a large one.

    Returns:
        The storage's name and the reason.

    Raises:
        InputError: no storage has that name, or the platform lacks it.
    """
    platform = platform or jax.default_backend()
    if backend != "auto":
        if backend not in STORAGES:
            raise InputError(f"backend: expected auto or one of {list(STORAGES)}, got {backend!r}")
        if (obstacle := obstacles(platform)[backend]) is not None:
            raise InputError(f"backend: {backend} can't run on {platform}: {obstacle}")
        note = "; experimental, never timed on hardware" if backend in _EXPERIMENTAL else ""
        return Choice(backend, f"asked for{note}")
    obstacle_of = obstacles(platform)
    if obstacle_of["native"] is None:
        return Choice("native", f"its own kernels are compiled for {platform}")
    if obstacle_of["csr"] is None:
        return Choice("csr", f"JAX {jax.__version__} has a native CSR kernel for {platform}")
    # On GPU the order of a scatter's sums is not fixed, whatever the size.
    if platform == "tpu" and num_entries is not None and num_entries < _ENTRIES_TO_BUCKET:
        return Choice(
            "segment", f"with {num_entries:,} entries the time to compile decides on {platform}"
        )
    return Choice(
        "bucketed",
        f"JAX {jax.__version__} has no native CSR kernel for {platform}; without a scatter the "
        "sums are the same in every run",
    )


def storage_of(backend: str | Maker, platform: str | None, num_entries: int) -> Maker:
    """Find what makes the storage of a matrix, by name or as the caller gives it.

    Args:
        backend: a name as :func:`choose_backend` takes it, or anything with the methods of
            :class:`Storage`.
        platform: ``cpu``, ``gpu`` or ``tpu``; by default the one that JAX runs on.
        num_entries: how many entries the matrix has.

    Returns:
        Something that has ``from_csr``.

    Raises:
        InputError: no storage has that name, it has no such method, or the platform lacks it.
    """
    if isinstance(backend, str):
        return STORAGES[choose_backend(backend, platform, num_entries).name]
    if not callable(getattr(backend, "from_csr", None)):
        raise InputError(
            f"backend: expected auto, one of {list(STORAGES)} or a storage with a method from_csr, "
            f"got {backend!r}"
        )
    platform = platform or jax.default_backend()
    if (obstacle := _obstacle(backend, platform)) is not None:
        raise InputError(f"backend: {backend!r} can't run on {platform}: {obstacle}")
    return backend


def choose_ordering(
    ordering: str, num_edges: int, *, backend: str = "csr", platform: str | None = None
) -> Choice:
    """Choose the order of the users and of the items to train in.

    Args:
        ordering: one of :data:`lightgcn_jax.graph.Ordering`, taken as it is, or ``auto``.
        num_edges: E.
        backend: the storage's name.
        platform: ``cpu``, ``gpu`` or ``tpu``; by default the one that JAX runs on.

    Returns:
        The ordering's name and the reason.
    """
    if ordering != "auto":
        return Choice(ordering, "asked for")
    platform = platform or jax.default_backend()
    if platform != "cpu":
        return Choice("none", f"orderings are measured on CPU only, not on {platform}")
    if backend not in _ORDERED:
        known = " and ".join(_ORDERED)
        return Choice("none", f"orderings are measured with {known} only, not with {backend}")
    if num_edges < EDGES_TO_ORDER:
        return Choice("none", f"a table of so few nodes is near the caches: {num_edges:,} edges")
    return Choice("co-clustering", f"rows read together come to lie together: {num_edges:,} edges")
