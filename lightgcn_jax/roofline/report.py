"""What was compiled of a graph's diffusion in each storage, what it must move, and what it took."""

from __future__ import annotations

import dataclasses
import functools
import time
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from lightgcn_jax.arrays import NodeTable, Scalar
from lightgcn_jax.diffusion.choice import (
    STORAGES,
    Choice,
    OrderingChoice,
    choose_backend,
    choose_ordering,
    obstacles,
)
from lightgcn_jax.diffusion.multiscale import multiscale, uniform_alphas
from lightgcn_jax.diffusion.operator import Operator, diffuse, diffusion_operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import checked, one_of, whole
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.graph.normalization import normalized_adjacency
from lightgcn_jax.graph.ordering import node_order
from lightgcn_jax.roofline.ceilings import Ceilings
from lightgcn_jax.roofline.targets import Target, find_target
from lightgcn_jax.roofline.timing import Program, Timer, time_programs
from lightgcn_jax.roofline.work import application_work, storage_bytes

DTYPES = ("float32", "bfloat16")


@dataclasses.dataclass(frozen=True)
class StorageReport:
    """One storage of the graph's operator.

    Attributes:
        obstacle: why the platform lacks it; the rest is None then.
        storage_bytes: bytes of its arrays.
        build_seconds: time to make it on the host.
        application: y = Ã x.
        layers: value and gradient of ½‖sum_k alpha_k Ã^k x‖², K applications each way.
    """

    obstacle: str | None
    storage_bytes: int | None = None
    build_seconds: float | None = None
    application: Program | None = None
    layers: Program | None = None


@dataclasses.dataclass(frozen=True)
class DiffusionReport:
    """Everything that :func:`diffusion_report` found.

    Attributes:
        target: the device that everything was compiled for.
        device: the name that the device gives itself.
        jax_version: the version of JAX.
        num_users: U.
        num_items: I.
        num_entries: entries of Ã, two for each interaction.
        dim: D.
        num_layers: K.
        dtype: type of the table and of the edge weights.
        ordering: the order of the graph's rows; never ``auto``.
        choice: the storage that ``auto`` takes for the graph on this platform, and why.
        ordering_choice: the ordering that ``auto`` trains with there, and why.
        ceilings: None where nothing was run.
        storages: what was found for each storage, by name.
    """

    target: str
    device: str
    jax_version: str
    num_users: int
    num_items: int
    num_entries: int
    dim: int
    num_layers: int
    dtype: str
    ordering: str
    choice: Choice
    ordering_choice: Choice
    ceilings: Ceilings | None
    storages: dict[str, StorageReport]

    @property
    def table_bytes(self) -> int:
        """One N×D table without a device's padding."""
        return (self.num_users + self.num_items) * self.dim * jnp.dtype(self.dtype).itemsize

    def as_dict(self) -> dict[str, Any]:
        """The same as plain values, ready for JSON."""
        return dataclasses.asdict(self) | {
            "choice": self.choice._asdict(),
            "ordering_choice": self.ordering_choice._asdict(),
        }


def diffusion_report(
    graph: BipartiteGraph,
    *,
    dim: int = 64,
    layers: int = 3,
    dtype: str = "float32",
    backends: Sequence[str] = (),
    ordering: OrderingChoice = "none",
    target: str | None = None,
    repeats: int = 7,
) -> DiffusionReport:
    """Compile every storage of the graph's operator, and measure it on the device that is here.

    Args:
        graph: the interactions.
        dim: D.
        layers: K ≥ 1.
        dtype: type of the table and the edge weights: ``float32`` or ``bfloat16``.
        backends: names of storages; none stands for all.
        ordering: the order of the graph's rows, see :func:`lightgcn_jax.graph.node_order`;
            ``auto`` for the one that ``auto`` trains with on the target.
        target: compile for this, see :func:`find_target`, and measure nothing; by default compile
            for the device that JAX runs on, and measure.
        repeats: samples of each program; medians are reported. Programs and a plain gather are
            timed in turn.

    Returns:
        What was found for every storage.

    Raises:
        InputError: an argument is out of range, an unknown name, or on the target no storage fits.
    """
    for name, value in (("dim", dim), ("layers", layers), ("repeats", repeats)):
        checked(name, value, whole(1))
    checked("dtype", dtype, one_of(DTYPES))
    device = find_target(target)
    reasons = obstacles(device.platform)
    names = list(dict.fromkeys(backends)) or list(STORAGES)
    if unknown := [name for name in names if name not in STORAGES]:
        raise InputError(f"backends: expected some of {list(STORAGES)}, got {unknown}")
    choice = choose_backend("auto", device.platform, 2 * graph.num_edges)
    ordering_choice = choose_ordering(
        "auto", graph.num_edges, backend=choice.name, platform=device.platform
    )
    # One order for all: the storages stand beside each other and beside one plain gather.
    chosen = ordering_choice.name if ordering == "auto" else ordering
    order = node_order(graph, chosen)
    graph = graph if order is None else graph.reordered(*order)
    matrix = normalized_adjacency(graph)
    table = jax.ShapeDtypeStruct((graph.num_nodes, dim), dtype)
    timer = Timer.of(device, matrix, table, repeats) if target is None else None
    both_ways = functools.partial(layers_and_gradient, layers=layers)
    functions = (diffuse, 1), (both_ways, 2 * layers)
    storages = {}
    for name in names:
        if reasons[name] is not None:
            storages[name] = StorageReport(reasons[name])
            continue
        start = time.perf_counter()
        operator = diffusion_operator(graph, backend=name, dtype=dtype, platform=device.platform)
        jax.block_until_ready(operator)
        built = time.perf_counter() - start
        work = application_work(operator, matrix, dim, dtype)
        programs = time_programs(device, operator, table, work, functions, timer)
        storages[name] = StorageReport(None, storage_bytes(operator), built, *programs)
    _check_some_fit(device, storages)
    return DiffusionReport(
        target=device.name,
        device=device.device.device_kind,
        jax_version=jax.__version__,
        num_users=graph.num_users,
        num_items=graph.num_items,
        num_entries=matrix.num_entries,
        dim=dim,
        num_layers=layers,
        dtype=dtype,
        ordering=chosen,
        choice=choice,
        ordering_choice=ordering_choice,
        ceilings=None if timer is None else timer.ceilings(),
        storages=storages,
    )


def layers_and_gradient(operator: Operator, x: NodeTable, layers: int) -> tuple[Scalar, NodeTable]:
    """½‖sum_k alpha_k Ã^k x‖² with uniform alpha, and its gradient.

    Args:
        operator: N×N.
        x: ``float[N, D]``.
        layers: K.

    Returns:
        ``float32[]`` and ``float[N, D]`` in the type of x.
    """

    def half_square(x: NodeTable) -> Scalar:
        y = multiscale(operator, x, uniform_alphas(layers))
        return 0.5 * jnp.square(y.astype(jnp.float32)).sum()

    return jax.value_and_grad(half_square)(x)


def _check_some_fit(target: Target, storages: dict[str, StorageReport]) -> None:
    programs = [made for one in storages.values() for made in (one.application, one.layers) if made]
    if programs and all(program.executable is None for program in programs):
        raise InputError(f"no storage fits: {programs[0].not_run}; try a smaller dim")
    if not programs:
        reasons = "; ".join(f"{name}: {found.obstacle}" for name, found in storages.items())
        raise InputError(f"no storage runs on {target.platform}: {reasons}")
