"""The cosine of encoded features: a ranking that needs neither a graph nor training."""

from __future__ import annotations

from collections.abc import Sequence

import flax.struct
import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int
from lightgcn_jax.errors import InputError
from pinsage_jax.features.inputs import Input
from pinsage_jax.features.schema import FeatureArrays


@flax.struct.dataclass
class FeatureCosine:
    """Scores an item by the mean of the cosines of its features with those of a query's items.

    An item's vector has two kinds of parts. All dense inputs stand side by side and are scaled to
    length 1 together, so that a wide input says more than a narrow one. Every bag has the counts of
    its ids, scaled to length 1. The parts stand side by side and the whole is scaled to length 1.
    An item without any feature scores 0.

    Attributes:
        queries: ``int32[Q, n]``, item rows, −1 pads.
        dense: ``float32[I, w]``, the part of the dense inputs.
        ids: ``int32[I, W]``, the entries of all bags, each bag's ids shifted past those before it.
        weights: ``float32[I, W]``, how much an entry adds to its id; 0 for padding.
        num_ids: how many ids all bags have together; static.
    """

    queries: Int[Array, "queries items"]
    dense: Float[Array, "items width"]
    ids: Int[Array, "items entries"]
    weights: Float[Array, "items entries"]
    num_ids: int = flax.struct.field(pytree_node=False)

    @property
    def num_queries(self) -> int:
        """Q."""
        return self.queries.shape[0]

    @property
    def num_items(self) -> int:
        """I."""
        return self.dense.shape[0]

    @property
    def block_bytes_per_query(self) -> int:
        """What a query takes beside its scores: its bags written out, and two columns of items."""
        mine = self.queries.shape[1] * (self.dense.shape[1] + 3 * self.ids.shape[1])
        return 4 * (self.num_ids + 2 * self.num_items + mine)

    def scores(self, rows: Ids) -> Float[Array, "items queries"]:
        """Scores of all items for some queries.

        Args:
            rows: ``int32[B]``, queries.
        """
        items = self.queries[rows]
        valid = (items >= 0).astype(jnp.float32)
        shares = valid / jnp.maximum(valid.sum(axis=1), 1)[:, None]
        items = jnp.maximum(items, 0)
        scores = self.dense @ (self.dense[items] * shares[:, :, None]).sum(axis=1).T
        if not self.num_ids:
            return scores
        # The queries' bags written out, an id a row; the items' stay lists of entries.
        slots = jnp.broadcast_to(
            jnp.arange(rows.shape[0], dtype=jnp.int32)[:, None, None],
            (*items.shape, self.ids.shape[1]),
        )
        bags = jnp.zeros((self.num_ids, rows.shape[0]), jnp.float32)
        bags = bags.at[self.ids[items], slots].add(self.weights[items] * shares[:, :, None])

        def add(total, entry):
            ids, weights = entry
            return total + weights[:, None] * bags[ids], ()

        return jax.lax.scan(add, scores, (self.ids.T, self.weights.T))[0]


def feature_cosine(
    inputs: Sequence[Input], arrays: FeatureArrays, queries: np.ndarray
) -> FeatureCosine:
    """Score items by their encoded features alone, without a graph and without training.

    Args:
        inputs: the inputs that are compared.
        arrays: the encoded features of I items, by input name.
        queries: ``int32[Q, n]``, item rows, −1 pads.

    Raises:
        InputError: there is no input, an array is missing or does not fit its input, or a query
            names an item that is not there.
    """
    if not inputs:
        raise InputError("inputs: expected at least one input to compare by, got none")
    parts = {entry.name: _checked(entry, arrays) for entry in inputs}
    num_items = len(next(iter(parts.values())))
    queries = np.asarray(queries, np.int32)
    if queries.ndim != 2 or queries.max(initial=-1) >= num_items or queries.min(initial=-1) < -1:
        raise InputError(
            f"queries: expected int32[queries, n] with rows of −1 to {num_items - 1}, "
            f"got {list(queries.shape)}, from {queries.min(initial=0)} to {queries.max(initial=0)}"
        )
    dense = [parts[entry.name] for entry in inputs if entry.kind == "dense"]
    dense = np.concatenate([np.zeros((num_items, 0), np.float32), *dense], axis=1)
    dense = _unit(dense, np.sqrt(np.square(dense).sum(axis=1)))
    ids, weights, shift = [], [], 0
    for entry in inputs:
        if entry.kind == "bag":
            bag = parts[entry.name]
            ids.append(np.where(bag >= 0, bag + shift, 0))
            weights.append(_unit((bag >= 0).astype(np.float32), _bag_lengths(bag)))
            shift += entry.size
    filled = [dense.any(axis=1), *(weight.any(axis=1) for weight in weights)]
    whole = np.sqrt(np.sum(filled, axis=0, dtype=np.float32))
    blank = np.zeros((num_items, 0), np.int32)
    return FeatureCosine(
        queries=jax.device_put(queries),
        dense=jax.device_put(_unit(dense, whole)),
        ids=jnp.asarray(np.concatenate([blank, *ids], axis=1), jnp.int32),
        weights=jnp.asarray(_unit(np.concatenate([blank, *weights], axis=1), whole), jnp.float32),
        num_ids=shift,
    )


def _checked(entry: Input, arrays: FeatureArrays) -> np.ndarray:
    if entry.name not in arrays:
        raise InputError(
            f"arrays: expected the input {entry.name!r}, got {', '.join(arrays) or 'none'}"
        )
    values = np.asarray(arrays[entry.name])
    num_items = len(next(iter(arrays.values())))
    if values.shape != (num_items, entry.width):
        raise InputError(
            f"{entry.name}: expected shape {[num_items, entry.width]}, got {list(values.shape)}"
        )
    if entry.kind == "bag" and not (
        values.min(initial=-1) >= -1 and values.max(initial=-1) < entry.size
    ):
        raise InputError(
            f"{entry.name}: expected ids below {entry.size} and −1, "
            f"got values from {values.min()} to {values.max()}"
        )
    if entry.kind == "dense" and not np.isfinite(values).all():
        raise InputError(f"{entry.name}: expected finite numbers")
    return values


def _unit(rows: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """Rows divided by lengths; rows of length 0 stay as they are."""
    return (rows / np.where(lengths > 0, lengths, 1)[:, None]).astype(np.float32)


def _bag_lengths(bag: np.ndarray) -> np.ndarray:
    """Length of each row's vector of counts, ``float64[I]``."""
    ordered = np.sort(bag, axis=1)
    # Σ over ids of count² is Σ over entries of their id's count: 2 · (places within equals) + 1.
    lengths, run = np.zeros(len(bag)), np.zeros(len(bag))
    for at in range(bag.shape[1]):
        same = ordered[:, at] == ordered[:, at - 1] if at else np.zeros(len(bag), bool)
        run = np.where(same, run + 1, 0)
        lengths += np.where(ordered[:, at] >= 0, 2 * run + 1, 0)
    return np.sqrt(lengths)
