"""What the encoder reads of the features, and the standardisation of numbers."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np

from lightgcn_jax.errors import InputError

_FAR = 100.0
# Entries that are standardised in one go, in float64.
_BLOCK = 1 << 22


class Input(NamedTuple):
    """One array that the encoder reads.

    Attributes:
        name: the key of the array.
        kind: a ``dense`` input is ``float32[R, width]``; a ``bag`` is ``int32[R, width]`` ids in
            [0, size), −1 pads, whose learnt vectors are averaged.
        size: how many distinct ids a bag may have; the width of a dense input.
        width: columns of the array.
    """

    name: str
    kind: Literal["dense", "bag"]
    size: int
    width: int

    @classmethod
    def dense(cls, name: str, width: int) -> Input:
        """Describe a dense input.

        Args:
            name: the key of the array.
            width: columns of the array.
        """
        return cls(name, "dense", width, width)


def require(fine: Any, where: str, expected: str, got: Any) -> None:
    """Raise an InputError that says what was expected and what came, unless all is fine.

    Args:
        fine: whether what came is accepted.
        where: the field, or the place in a file.
        expected: what was expected.
        got: what came.
    """
    if not fine:
        raise InputError(f"{where}: expected {expected}, got {repr(got)[:80]}")


def checked_integers(name: str, values: Any, low: int, bound: int) -> np.ndarray:
    """Check integers, and return them as ``int64[n]``.

    Args:
        name: the field.
        values: n integers.
        low: the least that is accepted.
        bound: one more than the largest that is accepted.

    Raises:
        InputError: these are no integers in one row, or one is out of range.
    """
    given = np.asarray(values)
    if given.ndim != 1 or (given.size and given.dtype.kind not in "iu"):
        raise InputError(f"{name}: expected integers [n], got {given.dtype} of shape {given.shape}")
    if given.size and (given.min() < low or given.max() >= bound):
        raise InputError(
            f"{name}: expected values in [{low}, {bound}), got {given.min()} to {given.max()}"
        )
    return given.astype(np.int64)


@dataclass(frozen=True)
class Statistics:
    """How the numbers of a column are standardised.

    Standardised values are cut at ±100: what lies that far from training must not drown the other
    features.

    Attributes:
        mean: of each of w dimensions.
        std: the standard deviation of each; 1 in place of 0.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __post_init__(self) -> None:
        for name, values in (("mean", self.mean), ("std", self.std)):
            require(type(values) is tuple and values, name, "a list of numbers", values)
            for one in values:
                real = type(one) is float and math.isfinite(one)
                require(real and (name == "mean" or one > 0), name, "finite floats, std > 0", one)
        require(len(self.mean) == len(self.std), "std", f"{len(self.mean)} entries", len(self.std))

    @classmethod
    def fit(cls, values: np.ndarray, rows: np.ndarray) -> Statistics:
        """Measure some rows, in float64; no rows at all give mean 0 and deviation 1.

        Args:
            values: ``float[I, w]``.
            rows: ``int[n]``, the rows that are measured.
        """
        width = values.shape[1]
        low, high = np.full(width, np.inf), np.full(width, -np.inf)
        mean, variance = np.zeros(width), np.zeros(width)
        parts = [rows[part] for part in _parts(len(rows), width)]
        for part in parts:
            block = values[part].astype(np.float64)
            mean += block.sum(axis=0) / len(rows)
            low, high = np.minimum(low, block.min(axis=0)), np.maximum(high, block.max(axis=0))
        # A sum rounds: a constant would differ from its own mean, by chance.
        constant = low == high
        mean = np.where(constant, low, mean)
        for part in parts:
            distance = values[part].astype(np.float64) - mean[None, :]
            variance += np.square(distance).sum(axis=0) / len(rows)
        std = np.where(constant | (variance == 0), 1.0, np.sqrt(variance))
        return cls(tuple(mean.tolist()), tuple(std.tolist()))

    def standardised(self, values: np.ndarray, missing: np.ndarray | None) -> np.ndarray:
        """Compute (value − mean) / std of each dimension, ``float32[n, w]``.

        Args:
            values: ``float[n, w]``.
            missing: ``bool[n]``, rows that become 0; None for none.
        """
        mean, std = np.array(self.mean)[None, :], np.array(self.std)[None, :]
        result = np.zeros(values.shape, np.float32)
        for part in _parts(*values.shape):
            with np.errstate(over="ignore"):  # what overflows is cut as well
                result[part] = np.clip((values[part] - mean) / std, -_FAR, _FAR)
        if missing is not None:
            result[missing] = 0
        return result


def _parts(rows: int, width: int) -> list[slice]:
    step = max(1, _BLOCK // width)
    return [slice(start, start + step) for start in range(0, rows, step)]
