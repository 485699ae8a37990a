"""Names for the arrays that travel between the stages, where they lie, and how long they are.

U users, I items, N = U + I nodes (users first, item i is node U + i), E interactions,
D dimensions, B batch, M shared negatives, K cut-off.
"""

from typing import Any

import jax
from jaxtyping import Array as Array
from jaxtyping import Bool as Bool
from jaxtyping import Float as Float
from jaxtyping import Int as Int
from jaxtyping import Key

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


def power_of_two(least: int) -> int:
    """The lowest power of two that is no smaller: sizes filled up to it share few programs.

    Args:
        least: a whole number.
    """
    return 1 << max(0, least - 1).bit_length()
