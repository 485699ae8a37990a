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
        name: its key among the arrays.
        kind: ``dense``: ``float32[R, width]``; ``bag``: ``int32[R, width]`` ids in [0, size), −1
            pads, embedded and averaged.
        size: distinct ids of a bag; the width of a dense input.
        width: columns of the array.
    """

    name: str
    kind: Literal["dense", "bag"]
    size: int
    width: int

    @classmethod
    def dense(cls, name: str, width: int) -> Input:
        return cls(name, "dense", width, width)


def require(fine: Any, where: str, expected: str, got: Any) -> None:
    """Raises InputError where something is not ``fine``: what was expected, and what came."""
    if not fine:
        raise InputError(f"{where}: expected {expected}, got {repr(got)[:80]}")


def checked_integers(name: str, values: Any, low: int, bound: int) -> np.ndarray:
    """``int64[n]`` in [low, bound)."""
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
    """Mean and standard deviation of each of w dimensions; 1 instead of a deviation of 0.

    Standardised values are cut at ±100: what lies that far from training must not drown the other
    features.
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
        """Of ``values[rows]``, ``float[n, w]``, in float64; mean 0 and deviation 1 of no rows."""
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
        """(value − mean) / std of each dimension, ``float32[n, w]``; 0 in missing rows."""
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
