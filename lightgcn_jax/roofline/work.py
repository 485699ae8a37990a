"""What an application of Ã must compute, and two models of the bytes that it must move.

Compulsory traffic: each array of the storage is read once, each row of the table that any entry
names is read once, each row of the result is written once. Uncached traffic: the same, but a row of
the table is read for every entry, as the arithmetic units see it; caches save what lies between the
two. K applications forward and K backward move 2K times as much as one application; what the
running sum over the layers reads and writes is left out.

References:
    Williams, Waterman and Patterson 2009, Roofline, section 3.
"""

from __future__ import annotations

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import DTypeLike

from lightgcn_jax.diffusion.operator import Operator
from lightgcn_jax.graph.csr import CsrMatrix


@dataclasses.dataclass(frozen=True)
class Work:
    """What a program must move and compute.

    Attributes:
        compulsory_bytes: with every row of the table read once.
        uncached_bytes: with a row of the table read for every entry.
        operations: a multiplication and an addition for each entry and dimension; padding is not
            counted.
    """

    compulsory_bytes: int
    uncached_bytes: int
    operations: int

    def times(self, count: int) -> Work:
        """The work of several applications.

        Args:
            count: how many.

        Returns:
            Each figure times the count.
        """
        return Work(*(count * figure for figure in dataclasses.astuple(self)))


def application_work(operator: Operator, matrix: CsrMatrix, dim: int, dtype: DTypeLike) -> Work:
    """The work of one application.

    Args:
        operator: holds the matrix in its storage.
        matrix: R×C.
        dim: D, columns of the table.
        dtype: type of the table.

    Returns:
        Bytes and operations.
    """
    row_bytes = dim * jnp.dtype(dtype).itemsize
    beside = storage_bytes(operator) + matrix.shape[0] * row_bytes
    return Work(
        compulsory_bytes=beside + len(np.unique(matrix.columns)) * row_bytes,
        uncached_bytes=beside + matrix.num_entries * row_bytes,
        operations=2 * matrix.num_entries * dim,
    )


def storage_bytes(operator: Operator) -> int:
    """Bytes of the arrays that hold the matrix, their padding included.

    Args:
        operator: in any storage.

    Returns:
        The sum over the storage's arrays.
    """
    return sum(leaf.nbytes for leaf in jax.tree.leaves(operator.storage))
