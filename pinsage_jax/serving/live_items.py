"""Items that did not exist at training time: embedded from their features and contexts.

The arrays of a finished run are laid out with room for more rows. A new item takes the next row.
Its features are encoded by the run's schema, walks from its contexts find its neighbours among the
items that are there, and the stored layers hold what those neighbours contribute. So one item costs
one walk and K small products, and its vectors are written in place. Nothing is retrained and, since
shapes are fixed, nothing is compiled again. One cost grows with the graph: every call of ``add``
copies its adjacency lists, so many items should be added in one call.

A new item has had less time than the others to be listed. Where popular items rank first, its few
contexts would keep it from being found. So it counts as in more contexts than it is in: ``GROWTH``
times as many, if nobody says otherwise.

Contexts do not list the new items. Therefore the vectors of old items stay as they were, and new
items do not become each other's neighbours. Training again with the new interactions changes both.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.arrays import Array, Float, Ids, Int
from lightgcn_jax.data.ids import IdMap, as_ids
from lightgcn_jax.errors import InputError
from lightgcn_jax.serving.answers import cut_to
from pinsage_jax.config import PinSageConfig, stream
from pinsage_jax.encoder.all_items import ItemVectors
from pinsage_jax.encoder.pinsage import ID_INPUT, STRUCTURE, PinSage, applied
from pinsage_jax.features.schema import FeatureSchema, TextEncoders
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import NeighborTable, walked_neighbors
from pinsage_jax.graph.structure import Structure

# New items embedded at a time; a smaller number is filled up to it.
_BATCH = 64
# Queries answered at a time.
_QUERIES = 16
_NEIGHBOURS = 10
_EDGES_AN_ITEM = 64
GROWTH = 1.75
"""How many times as many contexts as it is in a new item counts as in.

On validation worlds added items are then found about as often as ordinary ones."""

ExternalIds = Sequence[int | str]
# The contexts that hold each of several items.
Contexts = Sequence[ExternalIds]


class Added(NamedTuple):
    """The vectors of new items, and counts of what was left out.

    Attributes:
        ids: external ids, as they were given.
        vectors: ``float32[n, D]``.
        without_contexts: how many items none of the run's contexts holds; they are embedded from
            their features alone.
        unknown_contexts: how many memberships were left out because the run does not know the
            context.
        ignored_columns: how many feature columns the run does not read.
    """

    ids: list[int | str]
    vectors: np.ndarray
    without_contexts: int
    unknown_contexts: int
    ignored_columns: int


class Neighbours(NamedTuple):
    """The items most similar to one.

    Attributes:
        ids: external ids, best first.
        scores: ``float32[k]``, inner products of the vectors.
    """

    ids: list[int | str]
    scores: np.ndarray


class LiveItems:
    """All items of a finished run, with room for new ones."""

    def __init__(
        self,
        *,
        model: PinSage,
        params: Any,
        config: PinSageConfig,
        schema: FeatureSchema,
        items: IdMap,
        contexts: IdMap,
        edges: tuple[np.ndarray, np.ndarray],
        embedded: ItemVectors,
        structure: Structure | None = None,
        slack: int = 1024,
        text_encoders: TextEncoders | None = None,
    ):
        """Lay the arrays out.

        Args:
            model: the encoder.
            params: its parameters.
            config: the settings of the run.
            schema: how features are encoded.
            items: external ids of the item rows.
            contexts: external ids of the context rows.
            edges: ``int32[E]`` item rows and context rows that are walked.
            embedded: the layers and vectors of all items.
            structure: what items' structure is made of, where the encoder reads it.
            slack: how many new items there is room for.
            text_encoders: by text column, the functions that the schema was fitted with.
        """
        self.items, self._contexts = items, contexts
        self._model, self._params, self._config, self._schema = model, params, config, schema
        self._text_encoders, self._slack, self._structure = text_encoders, slack, structure
        self._graph = ItemGraph.from_pairs(
            *edges,
            num_items=len(items),
            num_contexts=len(contexts),
            item_slack=slack,
            edge_slack=slack * _EDGES_AN_ITEM,
        )
        room, below = ((0, slack), (0, 0)), embedded.layers
        # The layers and, last, the vectors.
        self._arrays = tuple(jnp.asarray(np.pad(one, room)) for one in (*below, embedded.vectors))

    @property
    def vectors(self) -> np.ndarray:
        """z of all known items, ``float32[known, D]``, new ones last."""
        return np.asarray(self._arrays[-1])[: len(self.items)]

    def add(
        self,
        ids: ExternalIds,
        features: FeatureTable,
        contexts: Contexts | None = None,
        growth: float = GROWTH,
    ) -> Added:
        """Embed new items, which ``similar`` finds from now on.

        Args:
            ids: external ids, none of them known yet.
            features: a row for each.
            contexts: external ids of the contexts that hold each item; None where no context holds
                any.
            growth: how many times as many contexts as it is in an item counts as in, ≥ 1.

        Raises:
            InputError: an id is known or stands twice, features do not fit, there is no room, or
                the growth is below 1.
        """
        if not 1 <= growth < np.inf:
            raise InputError(f"growth: expected a number from 1 on, got {growth}")
        grown = self._grown(ids, features, contexts)
        rows = grown.rows(as_ids(list(ids)))
        known_contexts, unknown = self._context_rows(contexts or [()] * len(ids))
        found = np.array([len(one) for one in known_contexts], np.int64)
        degrees = np.rint(found * growth).astype(np.int64)
        encoded = self._schema.encode(features, degrees, self._text_encoders)
        if self._config.id_embedding:
            encoded |= {ID_INPUT: np.full((len(ids), 1), -1, np.int32)}
        if self._structure is not None:
            encoded |= {STRUCTURE: self._structure.new_items(known_contexts, degrees)}
        graph = self._graph.with_items(rows, known_contexts)
        new: list[tuple[np.ndarray, tuple[Array, ...]]] = []
        model, config, layers = self._model, self._config, self._arrays[:-1]
        for start in range(0, len(ids), _BATCH):
            part = slice(start, start + _BATCH)
            given = {name: _filled(values[part]) for name, values in encoded.items()}
            filled = _filled(rows[part].astype(np.int32))
            key = jax.random.fold_in(stream(config, "new items"), int(rows[start]))
            near = None
            if model.layers:
                walks, count = config.walk_config, config.neighbors
                near = walked_neighbors(key, graph, filled, count=count, config=walks)
            made = _embed_new(self._params, given, near, layers, model)
            new.append((filled, made))
        # Only now, so that an error leaves everything as it was.
        for filled, made in new:
            self._arrays = _written(self._arrays, filled, made)
        self.items, self._graph = grown, graph
        vectors, ignored = np.asarray(self._arrays[-1][rows]), len(self._schema.ignored(features))
        return Added(
            ids=list(ids),
            vectors=vectors,
            without_contexts=int((found == 0).sum()),
            unknown_contexts=unknown,
            ignored_columns=ignored,
        )

    def similar(self, ids: ExternalIds, k: int | None = None) -> list[Neighbours]:
        """Find the k items with the highest scores for each given one, which is left out itself.

        Args:
            ids: external ids.
            k: how many are found for each, by default 10; where there are fewer other items, all
                of them are (and a UserWarning says so if k was given).

        Raises:
            InputError: an id is unknown, or k is below 1.
        """
        k = cut_to(k, len(self.items) - 1, "other items there are", default=_NEIGHBOURS)
        rows = np.array([self.items.row(one) for one in ids], np.int32)
        found: list[Neighbours] = []
        for start in range(0, len(rows), _QUERIES):
            part = rows[start : start + _QUERIES]
            asked = np.pad(part, (0, _QUERIES - len(part)), mode="edge")
            answers = _nearest(self._arrays[-1], asked, np.int32(len(self.items)), k=k)
            # Those to what the batch was filled up with come last, and are not read.
            for _, near, scores in zip(part, *map(np.asarray, answers), strict=False):
                found.append(Neighbours(self.items.external(near), scores))
        return found

    def layer_rows(self, rows: np.ndarray) -> list[np.ndarray]:
        """Take the layers and, last, the vectors of chosen rows, to store them.

        Args:
            rows: ``int[n]``.
        """
        return [np.asarray(array[rows]) for array in self._arrays]

    def restore(self, ids: IdMap, arrays: Sequence[np.ndarray]) -> None:
        """Take back items that were added before, with the rows that :meth:`layer_rows` returned.

        Args:
            ids: all items, the added ones last.
            arrays: layers and vectors of the added ones, ``float32[added or more, …]`` each; rows
                without an id are ignored.

        Raises:
            InputError: there is no room, or the arrays do not fit the ids.
        """
        first, added = len(self.items), len(ids) - len(self.items)
        self._check_room(added)
        kept, widths = self._arrays, [array.shape[1:] for array in self._arrays]
        fits = added >= 0 and [one.shape[1:] for one in arrays] == widths
        if not fits or any(len(one) < added for one in arrays):
            raise InputError(
                f"added items: expected {len(kept)} arrays of {added} rows or more, "
                f"got {[list(one.shape) for one in arrays]}"
            )
        pairs, rows = zip(kept, arrays, strict=True), slice(first, len(ids))
        self._arrays = tuple(into.at[rows].set(one[:added]) for into, one in pairs)
        self.items = ids

    def _grown(self, ids: ExternalIds, features: FeatureTable, contexts: Contexts | None) -> IdMap:
        """The id map with the new items, checked."""
        if not len(ids):
            raise InputError("ids: expected at least one new item, got none")
        given = IdMap(as_ids(list(ids)))
        known = self.items.rows(given.ids)
        if (known >= 0).any():
            raise InputError(f"ids: item {ids[int(np.argmax(known >= 0))]!r} is known already")
        lengths = {"ids": len(ids), "features": features.num_rows}
        if contexts is not None:
            lengths["contexts"] = len(contexts)
        if len(set(lengths.values())) > 1:
            raise InputError(f"expected one row for each new item, got {lengths}")
        self._check_room(len(ids))
        return self.items.grow(list(ids))

    def _check_room(self, wanted: int) -> None:
        if wanted > len(self._arrays[-1]) - len(self.items):
            raise InputError(
                f"expected at most {self._slack:,} new items, {wanted:,} more do not fit; open the "
                "run with a larger slack, or train again"
            )

    def _context_rows(self, contexts: Contexts) -> tuple[list[np.ndarray], int]:
        """Rows of the known contexts of each item, and how many were not known."""
        known, unknown = [], 0
        for given in contexts:
            rows = self._contexts.rows(list(given)) if len(given) else np.zeros(0, np.int32)
            known.append(np.unique(rows[rows >= 0]))
            unknown += int((rows < 0).sum())
        return known, unknown


@functools.partial(jax.jit, static_argnames="model")
def _embed_new(
    params: Any,
    features: dict[str, Array],
    near: NeighborTable | None,
    layers: tuple[Array, ...],
    model: PinSage,
) -> tuple[Array, ...]:
    """The layers and, last, the vectors of new items, ``float32[batch, D]`` each."""
    h = applied(model, params, "encode", features)
    new = [h]
    for k in range(model.layers):
        assert near is not None
        # Only the neighbours' messages are computed, each for the row that asks for it.
        below = layers[k][jnp.maximum(near.ids, 0).reshape(-1)]
        messages = applied(model, params, "messages", k, below)
        places = jnp.arange(near.ids.size, dtype=jnp.int32).reshape(near.ids.shape)
        h = applied(model, params, "convolve", k, h, messages, places, near.weights)
        new.append(h)
    return *new[: len(layers)], applied(model, params, "head", h, features)


@functools.partial(jax.jit, donate_argnums=0)
def _written(arrays: tuple[Array, ...], rows: Ids, values: tuple[Array, ...]) -> tuple[Array, ...]:
    """The arrays, which are given up, with rows of them replaced; the last may stand repeatedly."""
    return tuple(into.at[rows].set(one) for into, one in zip(arrays, values, strict=True))


@functools.partial(jax.jit, static_argnames="k")
def _nearest(
    vectors: Float[Array, "items dim"], rows: Ids, known: Int[Array, ""], *, k: int
) -> tuple[Array, Array]:
    """Rows and scores of the nearest known items, ``[queries, k]`` each."""
    scores = vectors[rows] @ vectors.T
    places = jnp.arange(vectors.shape[0], dtype=jnp.int32)[None, :]
    scores = jnp.where((places < known) & (places != rows[:, None]), scores, -jnp.inf)
    best, found = jax.lax.top_k(scores, k)
    return found.astype(jnp.int32), best


def _filled(values: np.ndarray) -> np.ndarray:
    """A batch, filled up with its last row."""
    wide = [(0, _BATCH - len(values))] + [(0, 0)] * (values.ndim - 1)
    return np.pad(values, wide, mode="edge")
