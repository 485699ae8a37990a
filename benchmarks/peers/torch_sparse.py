"""Ã as PyTorch is fastest with it: CSR, and a derivative that knows Ã to be symmetric."""

from __future__ import annotations

import warnings

import torch


class Symmetric(torch.autograd.Function):
    """y = Ã x whose derivative is Ã ȳ: autograd needs no transpose."""

    @staticmethod
    def forward(ctx, matrix, x):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Multiply.

        Args:
            ctx: keeps the matrix for the derivative.
            matrix: Ã, sparse ``float[N, N]``.
            x: ``float[N, D]``.

        Returns:
            y, ``float[N, D]``.
        """
        ctx.matrix = matrix
        return matrix @ x

    @staticmethod
    def backward(ctx, cotangent):  # pyright: ignore[reportIncompatibleMethodOverride]
        """Multiply the cotangent.

        Args:
            ctx: holds the matrix.
            cotangent: ȳ, ``float[N, D]``.

        Returns:
            None for the matrix, and x̄, ``float[N, D]``.
        """
        return None, ctx.matrix @ cotangent


def csr_of(
    offsets: torch.Tensor, columns: torch.Tensor, values: torch.Tensor, shape
) -> torch.Tensor:
    """A CSR matrix with ids of 32 bits, which MKL takes as they are.

    MKL would copy ids of 64 bits at each product.

    Args:
        offsets: ``int[N + 1]``.
        columns: ``int[entries]``.
        values: ``float[entries]``.
        shape: N rows, N columns.

    Returns:
        The matrix, checked.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        return torch.sparse_csr_tensor(
            offsets.int(), columns.int(), values, shape, check_invariants=True
        )


def csr_from_coo(coo: torch.Tensor) -> torch.Tensor:
    """A coalesced COO matrix as :func:`csr_of` makes it.

    Args:
        coo: sparse ``float[N, N]``.

    Returns:
        The same entries.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Sparse CSR tensor support is in beta")
        csr = coo.to_sparse_csr()
    return csr_of(csr.crow_indices(), csr.col_indices(), csr.values(), csr.shape)
