"""What applies Ã to a table: our storages here, and in ``peers/diffusion`` the others.

There are two tasks: ``forward`` is y = Ã x; ``k3`` is the loss Σ (y − t)² of y = ¼ Σ Ãᵏ x,
k = 0 … 3, and its gradient with respect to x.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property, partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lightgcn_jax.arrays import Array, Float, NodeTable
from lightgcn_jax.diffusion import (
    STORAGES,
    Operator,
    diffuse,
    diffusion_operator,
    multiscale,
    obstacles,
    uniform_alphas,
)
from lightgcn_jax.diffusion.segment import MESSAGE_BYTES
from lightgcn_jax.graph import BipartiteGraph, CsrMatrix, Ordering, node_order, normalized_adjacency

LAYERS = 3
ALPHAS = uniform_alphas(LAYERS)
TASKS = ("forward", "k3")
CO_CLUSTERED = {f"{name}-co-clustered": name for name in ("native", "csr")}
NATIVE_BFLOAT16 = "native-bfloat16"
STORAGE_NAMES = (*STORAGES, *CO_CLUSTERED, NATIVE_BFLOAT16)
TOLERANCE, BFLOAT16_TOLERANCE = 1e-4, 2.0**-7
_FLOAT = 4


class Sizes(NamedTuple):
    """The sizes of a problem.

    Attributes:
        nodes: N.
        entries: non-zeros of Ã, two for each interaction.
        dim: D.
    """

    nodes: int
    entries: int
    dim: int

    @property
    def table(self) -> int:
        """Bytes of one ``float32[N, D]``."""
        return _FLOAT * self.nodes * self.dim

    @property
    def messages(self) -> int:
        """Bytes of one row for each entry, ``float32[entries, D]``."""
        return _FLOAT * self.entries * self.dim


class Need(NamedTuple):
    """Bytes that a contender holds.

    Attributes:
        matrix: what its form of Ã takes while it is in the race.
        forward: what a call of this task takes at most, result included, beside matrix, x and t.
        k3: what a call of this task takes at most, likewise.
    """

    matrix: int
    forward: int
    k3: int


class Started(NamedTuple):
    """A contender ready to run.

    Attributes:
        calls: task -> a call that returns when its result, y or (loss, gradient), is there.
        temporaries: task -> bytes beside arguments and result, where a compiler states them.
        rows: ``int32[N]``, the row of each node in tables; None where node n has row n.
    """

    calls: Mapping[str, Callable[[], Any]]
    temporaries: Mapping[str, int]
    rows: np.ndarray | None = None


class Contender(NamedTuple):
    """One way to apply Ã.

    Attributes:
        start: a function that makes it ready, compiled.
        need: a function that predicts its memory.
        tasks: names of the tasks that it has.
        weighted: False for one that adds rows up without Ã's weights.
        tolerance: the largest error over the largest value that is no mistake.
        obstacle: why it can't run here; None where it can.
    """

    start: Callable[[Problem], Started]
    need: Callable[[Sizes], Need]
    tasks: tuple[str, ...] = TASKS
    weighted: bool = True
    tolerance: float = TOLERANCE
    obstacle: str | None = None


class Problem:
    """Ã of a graph and tables, each library's tables in memory of its own.

    Args:
        graph: the interactions.
        dim: D.
        seed: seed of x and t.
    """

    def __init__(self, graph: BipartiteGraph, dim: int, seed: int = 0):
        self.graph = graph
        self.matrix: CsrMatrix = normalized_adjacency(graph)
        self.sizes = Sizes(graph.num_nodes, self.matrix.num_entries, dim)
        rng = np.random.default_rng(seed)
        shape = graph.num_nodes, dim
        self.x = rng.standard_normal(shape, np.float32)
        self.target = rng.standard_normal(shape, np.float32)

    @cached_property
    def jax_tables(self) -> tuple[jax.Array, jax.Array]:
        """x and t in JAX's memory."""
        return jnp.array(self.x, copy=True), jnp.array(self.target, copy=True)

    def difference(
        self,
        task: str,
        result: Any,
        *,
        weighted: bool = True,
        rows: np.ndarray | None = None,
        columns: int = 8,
    ) -> float:
        """The largest error of a result over its largest value, in the first columns.

        Columns never meet in either task, so that a float64 product of a few columns suffices.

        Args:
            task: one of :data:`TASKS`.
            result: what the call of the task gave.
            weighted: False for a contender that adds rows up without Ã's weights.
            rows: ``int32[N]``, the row of each node in the result; None where node n has row n.
            columns: how many columns are compared.

        Returns:
            The error; 0 for a result that is exact.
        """
        matrix = self.matrix.as_scipy()
        if not weighted:
            matrix.data = np.ones_like(matrix.data)
        x, target = (table[:, :columns].astype(np.float64) for table in (self.x, self.target))
        if task == "forward":
            found, expected = result, matrix @ x
        else:
            _, found = result
            expected = polynomial(matrix, 2 * (polynomial(matrix, x) - target))
        # NumPy does not know PyTorch's bfloat16.
        found = np.asarray(found.float() if hasattr(found, "float") else found, np.float64)
        found = found[:, :columns]
        error = np.abs((found if rows is None else found[rows]) - expected).max(initial=0)
        return float(error / max(np.abs(expected).max(initial=0), np.finfo(float).tiny))


def polynomial(matrix: Any, x: Any) -> Any:
    """Σ alpha_k Ãᵏ x with a running sum, for any library's matrix and table.

    Args:
        matrix: Ã, ``[N, N]``.
        x: ``[N, D]``.

    Returns:
        The sum, ``[N, D]``.
    """
    power, total = x, ALPHAS[0] * x
    for alpha in ALPHAS[1:]:
        power = matrix @ power
        total += alpha * power
    return total


def storages() -> dict[str, Contender]:
    """Our storages by name, those that the platform lacks with their obstacle, and variants."""
    contenders = {
        name: Contender(partial(_start, name), partial(_need, name), obstacle=obstacle)
        for name, obstacle in obstacles(jax.default_backend()).items()
    }
    for variant, name in CO_CLUSTERED.items():
        start = partial(_start, name, ordering="co-clustering")
        contenders[variant] = contenders[name]._replace(start=start)
    contenders[NATIVE_BFLOAT16] = contenders["native"]._replace(
        start=partial(_start, "native", tasks=("forward",), dtype=jnp.bfloat16),
        tasks=("forward",),
        tolerance=BFLOAT16_TOLERANCE,
    )
    return contenders


def _start(
    name: str,
    problem: Problem,
    ordering: Ordering = "none",
    tasks: Sequence[str] = TASKS,
    dtype: DTypeLike = jnp.float32,
) -> Started:
    graph, rows = problem.graph, None
    tables = tuple(table.astype(dtype) for table in problem.jax_tables)
    order = node_order(graph, ordering)
    if order is not None:
        graph = graph.reordered(*order)
        nodes = np.concatenate([order.users, graph.num_users + order.items])
        tables, rows = tuple(table[nodes] for table in tables), np.argsort(nodes)
    operator = diffusion_operator(graph, backend=name)
    x, target = tables
    programs = {
        "forward": (jax.jit(diffuse), (operator, x)),
        "k3": (jax.jit(jax.value_and_grad(_loss, argnums=1)), (operator, x, target)),
    }
    calls, temporaries = {}, {}
    for task in tasks:
        function, arguments = programs[task]
        compiled = function.lower(*arguments).compile()
        calls[task] = partial(_run, compiled, arguments)
        temporaries[task] = compiled.memory_analysis().temp_size_in_bytes
    return Started(calls, temporaries, rows)


def _run(compiled: jax.stages.Compiled, arguments: tuple) -> Any:
    return jax.block_until_ready(compiled(*arguments))


def _loss(operator: Operator, x: NodeTable, target: NodeTable) -> Float[Array, ""]:
    return jnp.square(multiscale(operator, x, ALPHAS) - target).sum()


def _need(name: str, sizes: Sizes) -> Need:
    """What a storage needs: XLA's statement of the compiled programs, rounded up to tables."""
    table, entries = sizes.table, sizes.entries
    match name:
        case "csr" | "native":
            return Need(8 * entries, 3 * table, 7 * table)
        case "bcoo":
            messages = sizes.messages + 12 * entries
            return Need(12 * entries, messages + 2 * table, messages + 5 * table)
        case "segment":
            messages = min(sizes.messages, MESSAGE_BYTES)
            return Need(12 * entries, messages + 3 * table, messages + 6 * table)
        case _:  # padded storages: bucketed, pallas
            return Need(12 * entries, 4 * table, 7 * table)
