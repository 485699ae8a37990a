"""Sorting many short rows of words at once.

On a CPU, XLA sorts one row after another, on one core, by comparisons whose outcome the processor
cannot predict. A bitonic network has no branches. The rows to sort become the columns of a matrix,
and each stage of the network compares whole rows of that matrix. Every word is looked at
log₂ n (log₂ n + 1) / 2 times, and sorting rows of 500 still takes less than half the time.
Accelerators keep XLA's own sort, which is parallel there.

References:
    Batcher 1968, "Sorting networks and their applications".
"""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Int

_LARGEST = np.uint32(0xFFFFFFFF)


def sorted_rows(rows: Int[Array, "batch width"]) -> Int[Array, "batch width"]:
    """Sort each row in ascending order.

    Args:
        rows: ``uint32[B, n]``.
    """
    return jax.lax.platform_dependent(rows, cpu=_by_network, default=_by_xla)


def _by_xla(rows: Array) -> Array:
    return jnp.sort(rows, axis=1)


def _by_network(rows: Array) -> Array:
    width = rows.shape[1]
    padded = 1 << max(0, width - 1).bit_length()
    columns = jnp.pad(rows, ((0, 0), (0, padded - width)), constant_values=_LARGEST).T
    places = jnp.arange(padded, dtype=jnp.int32)

    def compare(columns: Array, stage: Array) -> tuple[Array, None]:
        flipped, upper = stage
        others = columns.at[places ^ flipped].get(mode="promise_in_bounds")
        keeps_larger = ((places & upper) != 0)[:, None]
        larger, smaller = jnp.maximum(columns, others), jnp.minimum(columns, others)
        return jnp.where(keeps_larger, larger, smaller), None

    columns, _ = jax.lax.scan(compare, columns, jnp.asarray(_stages(padded), jnp.int32))
    return columns.T[:, :width]


def _stages(width: int) -> np.ndarray:
    """The comparisons of a network for ``width`` places, ``int[stages, 2]``.

    A stage (flipped, upper) compares every place p with the place p ^ flipped. The larger of the
    two values goes to the place that has the bit ``upper``, the smaller to the other.

    The network merges sorted runs of 1, 2, 4, … places in pairs. The first stage of a merge
    compares the first place of one run with the last place of the other, the second with the last
    but one, and so on; therefore all runs are sorted in the same direction.
    """
    stages = []
    half = 1
    while half < width:
        stages.append((2 * half - 1, half))
        stages += [(1 << bit, 1 << bit) for bit in reversed(range(half.bit_length() - 1))]
        half *= 2
    return np.array(stages, np.int32).reshape(-1, 2)
