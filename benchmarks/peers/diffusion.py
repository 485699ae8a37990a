"""What stands beside our storages: PyTorch, PyG, SciPy, and bare gather-and-reduce loops.

The bare loops are the ceiling of :mod:`benchmarks.speed.diffusion`: they read the same index lists
and add rows up without a row for each edge. ``embedding_bag`` also runs without weights, which no
diffusion can.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from functools import cached_property, partial

import numba
import numpy as np
import scipy.sparse
import torch
from torch.nn import functional
from torch_geometric.nn import LGConv
from torch_geometric.nn.conv.gcn_conv import gcn_norm

from benchmarks.peers.torch_sparse import Symmetric, csr_of
from benchmarks.workloads.diffusion_contenders import (
    ALPHAS,
    BFLOAT16_TOLERANCE,
    Contender,
    Need,
    Problem,
    Sizes,
    Started,
    polynomial,
)

Application = Callable[[torch.Tensor], torch.Tensor]

# Runs of rows with equally many entries, for each thread: many even out what single rows weigh.
_RUNS_PER_THREAD = 16


class Forms:
    """A problem's matrix and tables as the peers want them, each made when first asked for.

    Args:
        problem: Ã and its tables.
    """

    def __init__(self, problem: Problem):
        self._matrix = problem.matrix
        self._tables = problem.x, problem.target

    @cached_property
    def x(self) -> torch.Tensor:
        """In PyTorch's memory."""
        return torch.from_numpy(self._tables[0]).clone()

    @cached_property
    def target(self) -> torch.Tensor:
        """In PyTorch's memory."""
        return torch.from_numpy(self._tables[1]).clone()

    @cached_property
    def weights(self) -> torch.Tensor:
        """``float32[entries]`` of Ã."""
        return torch.from_numpy(self._matrix.weights.astype(np.float32))

    @cached_property
    def columns(self) -> torch.Tensor:
        """``int32[entries]`` of Ã."""
        return torch.from_numpy(self._matrix.columns)

    @cached_property
    def csr(self) -> torch.Tensor:
        """Ã, which PyTorch multiplies by MKL."""
        offsets = torch.from_numpy(self._matrix.offsets)
        return csr_of(offsets, self.columns, self.weights, self._matrix.shape)

    @cached_property
    def edges(self) -> torch.Tensor:
        """``int64[2, entries]``, receivers and senders."""
        rows = np.repeat(np.arange(self._matrix.shape[0]), self._matrix.lengths)
        return torch.from_numpy(np.stack([rows, self._matrix.columns.astype(np.int64)]))

    @cached_property
    def coo(self) -> torch.Tensor:
        """Ã, coalesced."""
        return torch.sparse_coo_tensor(
            self.edges, self.weights, self._matrix.shape, check_invariants=True
        ).coalesce()

    @cached_property
    def scipy(self) -> scipy.sparse.csr_array:
        """Ã in float32."""
        matrix = self._matrix.as_scipy()
        matrix.data = matrix.data.astype(np.float32)
        return matrix


_FORMS: weakref.WeakKeyDictionary[Problem, Forms] = weakref.WeakKeyDictionary()


def forms_of(problem: Problem) -> Forms:
    """The problem's forms, shared by the contenders while the problem lives.

    Args:
        problem: Ã and its tables.

    Returns:
        The same object for the same problem.
    """
    return _FORMS.setdefault(problem, Forms(problem))


class SymmetricPolynomial(torch.autograd.Function):
    """Σ alpha_k Ãᵏ x, its own derivative, as Horner's scheme: MKL adds while it multiplies."""

    @staticmethod
    def forward(ctx, matrix, x):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Apply the polynomial.

        Args:
            ctx: keeps the matrix for the derivative.
            matrix: Ã, sparse ``float[N, N]``.
            x: ``float[N, D]``.

        Returns:
            y, ``float[N, D]``.
        """
        ctx.matrix = matrix
        return _horner(matrix, x)

    @staticmethod
    def backward(ctx, cotangent):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Apply the same polynomial to the cotangent.

        Args:
            ctx: holds the matrix.
            cotangent: ȳ, ``float[N, D]``.

        Returns:
            None for the matrix, and x̄, ``float[N, D]``.
        """
        return None, _horner(ctx.matrix, cotangent)


def _horner(matrix: torch.Tensor, x: torch.Tensor) -> torch.Tensor:
    last, *rest = reversed(ALPHAS)
    total, scale = x, last
    for alpha in rest:
        total = torch.addmm(x, matrix, total, beta=alpha, alpha=scale)
        scale = 1.0
    return total


def peers() -> dict[str, Contender]:
    """Everything that is not ours, by name."""
    return {
        "torch-coo": Contender(partial(_torch, _coo), _coo_need),
        "torch-csr": Contender(partial(_torch, _csr), _csr_need),
        "torch-csr-symmetric": Contender(partial(_torch, _symmetric), _symmetric_need),
        "torch-csr-horner": Contender(_start_horner, _symmetric_need, tasks=("k3",)),
        "pyg-lgconv": Contender(partial(_torch, _lgconv), _lgconv_need),
        "pyg-lgconv-normalized": Contender(partial(_torch, _lgconv_normalized), _lgconv_need),
        "scipy": Contender(_start_scipy, _scipy_need),
        "numba": Contender(_start_numba, _bare_need, tasks=("forward",)),
        "embedding-bag": Contender(
            partial(_start_bag, weighted=False), _bare_need, tasks=("forward",), weighted=False
        ),
        "embedding-bag-weighted": Contender(
            partial(_start_bag, weighted=True), _bare_need, tasks=("forward",)
        ),
        "embedding-bag-bfloat16": Contender(
            partial(_start_bag, weighted=False, dtype=torch.bfloat16),
            _bare_need,
            tasks=("forward",),
            weighted=False,
            tolerance=BFLOAT16_TOLERANCE,
        ),
    }


def _coo(forms: Forms) -> Application:
    matrix = forms.coo
    return lambda x: torch.sparse.mm(matrix, x)


def _csr(forms: Forms) -> Application:
    matrix = forms.csr
    return lambda x: matrix @ x


def _symmetric(forms: Forms) -> Application:
    matrix = forms.csr
    return lambda x: Symmetric.apply(matrix, x)  # pyright: ignore[reportReturnType]


def _lgconv(forms: Forms) -> Application:
    """As by default: degrees and weights are computed anew in every layer."""
    layer, edges = LGConv(), forms.edges.flip(0)
    return lambda x: layer(x, edges)


def _lgconv_normalized(forms: Forms) -> Application:
    edges, weights = gcn_norm(forms.edges.flip(0), None, len(forms.x), add_self_loops=False)
    layer = LGConv(normalize=False)
    return lambda x: layer(x, edges, weights)


def _torch(application: Callable[[Forms], Application], problem: Problem) -> Started:
    forms = forms_of(problem)
    x, apply = forms.x, application(forms)

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return apply(x)

    def total(x: torch.Tensor) -> torch.Tensor:
        power, total = x, ALPHAS[0] * x
        for alpha in ALPHAS[1:]:
            power = apply(power)
            total = torch.add(total, power, alpha=alpha)
        return total

    k3 = partial(_loss_and_gradient, total, x, forms.target)
    return Started({"forward": forward, "k3": k3}, {})


def _start_horner(problem: Problem) -> Started:
    forms = forms_of(problem)
    matrix = forms.csr

    def total(x: torch.Tensor) -> torch.Tensor:
        return SymmetricPolynomial.apply(matrix, x)  # pyright: ignore[reportReturnType]

    return Started({"k3": partial(_loss_and_gradient, total, forms.x, forms.target)}, {})


def _loss_and_gradient(
    total: Application, x: torch.Tensor, target: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    x = x.detach().requires_grad_()
    loss = functional.mse_loss(total(x), target, reduction="sum")
    (gradient,) = torch.autograd.grad(loss, x)
    return loss.detach(), gradient


def _start_scipy(problem: Problem) -> Started:
    matrix, x, target = forms_of(problem).scipy, problem.x, problem.target

    def k3() -> tuple[float, np.ndarray]:
        error = polynomial(matrix, x)
        error -= target
        loss = float(np.vdot(error, error))
        error *= 2
        return loss, polynomial(matrix, error)

    return Started({"forward": lambda: matrix @ x, "k3": k3}, {})


def _start_numba(problem: Problem) -> Started:
    matrix, x = problem.matrix, problem.x
    weights = matrix.weights.astype(np.float32)
    runs = _RUNS_PER_THREAD * numba.get_num_threads()
    ends = np.linspace(0, matrix.num_entries, runs + 1)
    bounds = np.searchsorted(matrix.offsets, ends).astype(np.int64)
    bounds[0], bounds[-1] = 0, matrix.shape[0]
    arguments = bounds, matrix.offsets, matrix.columns, weights, x
    _gather_reduce(np.zeros(1, np.int64), *arguments[1:])  # compiles
    return Started({"forward": partial(_gather_reduce, *arguments)}, {})


@numba.njit(parallel=True, fastmath=True)
def _gather_reduce(bounds, offsets, columns, weights, x):  # pragma: no cover - compiled
    y = np.zeros((len(offsets) - 1, x.shape[1]), np.float32)
    for run in numba.prange(len(bounds) - 1):
        for row in range(bounds[run], bounds[run + 1]):
            total = y[row]
            for entry in range(offsets[row], offsets[row + 1]):
                weight, vector = weights[entry], x[columns[entry]]
                for place in range(x.shape[1]):
                    total[place] += weight * vector[place]
    return y


def _start_bag(problem: Problem, *, weighted: bool, dtype: torch.dtype = torch.float32) -> Started:
    forms = forms_of(problem)
    x, columns = forms.x.to(dtype), forms.columns
    offsets = torch.from_numpy(problem.matrix.offsets[:-1].copy())
    weights = forms.weights if weighted else None

    def forward() -> torch.Tensor:
        with torch.inference_mode():
            return functional.embedding_bag(
                columns, x, offsets, mode="sum", per_sample_weights=weights
            )

    return Started({"forward": forward}, {})


def _coo_need(sizes: Sizes) -> Need:
    """Autograd transposes and sorts the indices anew in every layer."""
    return Need(20 * sizes.entries, 2 * sizes.table, 6 * sizes.table + 28 * sizes.entries)


def _csr_need(sizes: Sizes) -> Need:
    """Autograd builds the transpose anew in every layer."""
    return Need(8 * sizes.entries, 2 * sizes.table, 6 * sizes.table + 40 * sizes.entries)


def _symmetric_need(sizes: Sizes) -> Need:
    return Need(8 * sizes.entries, 2 * sizes.table, 6 * sizes.table)


def _lgconv_need(sizes: Sizes) -> Need:
    """It gathers a row for each edge and multiplies it by a weight, and so backwards."""
    messages = 2 * sizes.messages + 16 * sizes.entries
    return Need(36 * sizes.entries, messages + 2 * sizes.table, messages + 5 * sizes.table)


def _scipy_need(sizes: Sizes) -> Need:
    return Need(4 * sizes.entries, sizes.table, 5 * sizes.table)


def _bare_need(sizes: Sizes) -> Need:
    return Need(8 * sizes.entries, sizes.table + 16 * sizes.nodes, 0)
