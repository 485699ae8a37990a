"""Weights of interactions: how much each counts in graph and loss, beside a plain interaction's 1.

A pair that stands in several rows weighs what they weigh together.
"""

import numpy as np

from lightgcn_jax.errors import InputError


def check_weights(field: str, weights: np.ndarray, edges: int) -> None:
    """Refuse what are no weights.

    Args:
        field: What an error calls them.
        weights: What should be float32[edges], finite and above 0.
        edges: How many interactions there are.

    Raises:
        InputError: Another type or length, or a number that is not finite or not above 0.
    """
    if weights.dtype != np.float32 or weights.shape != (edges,):
        raise InputError(
            f"{field}: expected float32[{edges}], one for each interaction, "
            f"got {weights.dtype}{list(weights.shape)}"
        )
    fits = np.isfinite(weights) & (weights > 0)
    if not fits.all():
        at = int(np.argmin(fits))
        raise InputError(f"{field}[{at}]: expected a finite number above 0, got {weights[at]}")


def summed(keys: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The distinct keys in ascending order, and what the rows of each weigh together.

    Weights of one key are added in the order of their size, so that no order of rows has a say.

    Args:
        keys: int64[n].
        weights: float32[n].

    Returns:
        int64[E] and float32[E]; infinite where a sum is too large.
    """
    order = np.lexsort((weights, keys))
    ranked = keys[order]
    starts = np.flatnonzero(np.append(True, ranked[1:] != ranked[:-1])[: len(ranked)])
    if not len(starts):
        return ranked, weights[order]
    sums = np.add.reduceat(weights[order].astype(np.float64), starts)
    with np.errstate(over="ignore"):
        return ranked[starts], sums.astype(np.float32)


def summed_at(
    kept: np.ndarray, keys: np.ndarray, weights: np.ndarray, parts: np.ndarray | None
) -> np.ndarray:
    """What all rows of the pairs at some rows weigh together.

    Rows in another part of a split than the kept one say nothing: what is held out weighs no
    training pair.

    Args:
        kept: int[k], one row of each pair.
        keys: int64[E], the pair of each row.
        weights: float32[E].
        parts: uint8[E], the part of each row, or None.

    Returns:
        float32[k].
    """
    if parts is not None:
        by_key = kept[np.argsort(keys[kept])]
        same = parts[by_key[np.searchsorted(keys[by_key], keys)]] == parts
        keys_counted, weights = keys[same], weights[same]
    else:
        keys_counted = keys
    pairs, sums = summed(keys_counted, weights)
    return sums[np.searchsorted(pairs, keys[kept])]


def told(weights: np.ndarray) -> str:
    """A line that says what weights there are and what becomes of them.

    Args:
        weights: float32[E], of distinct pairs, E of at least 1.
    """
    total = float(weights.sum(dtype=np.float64))
    return (
        f"{len(weights):,} pairs weigh {total:,.6g} together, from {weights.min():,.6g} to "
        f"{weights.max():,.6g} each (the rows of a pair add up); they weigh so in graph and loss"
    )
