"""Names for the arrays that travel between the stages, where they lie, and how long they are.

U users, I items, N = U + I nodes (users first, item i is node U + i), E interactions,
D dimensions, B batch, M shared negatives, K cut-off.
"""

from collections.abc import Sequence
from typing import Any

import jax
import numpy as np
from jaxtyping import Array as Array
from jaxtyping import Bool as Bool
from jaxtyping import Float as Float
from jaxtyping import Int as Int
from jaxtyping import Key

from lightgcn_jax.errors import InputError

NodeTable = Float[Array, "nodes dim"]
UserTable = Float[Array, "users dim"]
ItemTable = Float[Array, "items dim"]
Vectors = Float[Array, "batch dim"]
Vector = Float[Array, " dim"]
Scalar = Float[Array, ""]
Ids = Int[Array, " batch"]
RankedIds = Int[Array, "batch cutoff"]
Mask = Bool[Array, "..."]
PRNGKey = Key[Array, ""]


def default_device() -> Any:
    """The device that new arrays are put on: JAX's first, or the one that was chosen."""
    return next(iter(jax.numpy.zeros(()).devices()))


def check_array(name: str, array: Any, shape: Sequence[int | None], dtype: Any = None) -> None:
    """Refuse an array of another type or shape, or one whose numbers are not all finite.

    Args:
        name: what an error calls it.
        array: the array.
        shape: the length of each axis; None for any that is not 0.
        dtype: its type; None for any of floating-point numbers.

    Raises:
        InputError: it is another.
    """
    lengths = zip(array.shape, shape, strict=False)
    fits = len(array.shape) == len(shape) and all(
        got == wanted or (wanted is None and got) for got, wanted in lengths
    )
    floating = jax.numpy.issubdtype(array.dtype, np.floating)
    if not fits or (not floating if dtype is None else array.dtype != dtype):
        kind = "float" if dtype is None else np.dtype(dtype).name
        wanted = ", ".join("any" if length is None else str(length) for length in shape)
        raise InputError(f"{name}: expected {kind}[{wanted}], got {array.dtype}{list(array.shape)}")
    if floating and not np.isfinite(array).all():
        raise InputError(f"{name}: expected finite numbers, got NaN or infinity")


def power_of_two(least: int) -> int:
    """The lowest power of two that is no smaller: sizes filled up to it share few programs.

    Args:
        least: a whole number.
    """
    return 1 << max(0, least - 1).bit_length()


def few_lengths(least: int) -> int:
    """The lowest multiple of an eighth of :func:`power_of_two` that is no smaller: at most a
    quarter more, where the power itself may be the double.

    Args:
        least: a whole number.
    """
    step = max(1, power_of_two(least) // 8)
    return -(-least // step) * step
