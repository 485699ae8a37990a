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

What is known of an added item is kept: it can be given contexts later, corrected and removed.

An item in no context borrows some of the items most like it (:mod:`pinsage_jax.serving.borrowed`).

Contexts do not list the new items. Therefore the vectors of old items stay as they were, and new
items do not become each other's neighbours. Training again with the new interactions changes both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, get_args

import jax
import jax.numpy as jnp
import numpy as np
import polars as pl

from lightgcn_jax.arrays import Array
from lightgcn_jax.data.ids import IdMap, as_ids, canonical_integers
from lightgcn_jax.data.pairs import check_rows
from lightgcn_jax.errors import InputError
from lightgcn_jax.serving.answers import cut_to
from pinsage_jax.config import PinSageConfig, stream
from pinsage_jax.encoder.all_items import ItemVectors
from pinsage_jax.encoder.pinsage import ID_INPUT, STRUCTURE, PinSage
from pinsage_jax.features.schema import FeatureSchema, TextEncoders
from pinsage_jax.features.spelling import same_but_for_spelling
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.graph.item_graph import ItemGraph
from pinsage_jax.graph.neighborhoods import walked_neighbors
from pinsage_jax.graph.structure import Structure
from pinsage_jax.serving.added_items import Added, AddedItems, check_growth, check_lengths
from pinsage_jax.serving.borrowed import Borrowed, Lenders, with_borrowed
from pinsage_jax.serving.programs import (
    BATCH,
    Similarity,
    embed_new,
    filled,
    nearest_in_batches,
    written,
)

_EDGES_AN_ITEM = 64
GROWTH = 1.75
"""How many times as many contexts as it is in a new item counts as in.

On validation worlds added items are then found about as often as ordinary ones."""

ExternalIds = Sequence[int | str]
# The contexts that hold each of several items.
Contexts = Sequence[ExternalIds]


class Neighbours(NamedTuple):
    """The items most similar to one.

    Attributes:
        ids: external ids, best first.
        scores: ``float32[k]``, inner products of the vectors or their cosines.
    """

    ids: list[int | str]
    scores: np.ndarray


class LiveItems:
    """All items of a finished run, with room for new ones.

    Attributes:
        items: external ids of all items, those that were added last.
        contexts: external ids of the contexts.
        trained: how many of the items were there in training.
        added: what is known of those that were added; None before the first.
        stored: which state of the run's added items these come from, for whoever stores them.
    """

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
        features: Callable[[], FeatureTable] | None = None,
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
            features: reads those of all items, so that new ones may borrow contexts; None for not.
            slack: how many new items there is room for.
            text_encoders: by text column, the functions that the schema was fitted with.
        """
        self.items, self.contexts, self.trained = items, contexts, len(items)
        self.added: AddedItems | None = None
        self.stored = ""
        self._model, self._params, self._config, self._schema = model, params, config, schema
        self._text_encoders, self._slack, self._structure = text_encoders, slack, structure
        reads_graph = model.layers or structure is not None or schema.degree is not None
        self._lenders = Lenders(features, schema) if features and reads_graph else None
        self._graph = ItemGraph.from_pairs(
            *edges,
            num_items=len(items),
            num_contexts=len(contexts),
            item_slack=slack,
            edge_slack=slack * _EDGES_AN_ITEM,
        )
        room, below = ((0, slack), (0, 0)), embedded.layers
        # The layers and, last, the vectors: copies, for rows are written into memory of JAX's own.
        self._arrays = tuple(jnp.array(np.pad(one, room)) for one in (*below, embedded.vectors))

    @property
    def table(self) -> Array:
        """``float32[rows, D]``, the vectors as they lie on the device, with rows to spare."""
        return self._arrays[-1]

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
        check_growth(growth)
        grown = self._grown(ids, features, contexts)
        rows = grown.rows(as_ids(list(ids)))
        held_by, unknown = self._context_rows(contexts or [()] * len(ids))
        table = self._schema.read_of(features)
        new = AddedItems(table, held_by, np.full(len(ids), float(growth)))
        placed = with_borrowed(new, self._lenders, self._graph)
        vectors = self._embed(rows, new, placed)
        self.items = grown
        in_order = new.take(np.argsort(rows))  # ids get their rows in ascending order
        self.added = in_order if self.added is None else self.added.followed_by(in_order)
        return self._told(ids, vectors, new, placed, unknown, features)

    def update(
        self,
        ids: ExternalIds,
        features: FeatureTable | None = None,
        contexts: Contexts | None = None,
        growth: float | None = None,
        *,
        replace: bool = False,
    ) -> Added:
        """Embed items that were added before once more, with what is known of them by now.

        Args:
            ids: external ids of added items.
            features: a row for each; None leaves their features as they are.
            contexts: external ids of contexts that hold each item, beside those of before; None for
                no more.
            growth: as :meth:`add` takes it; None leaves it as it is.
            replace: whether the contexts take the place of those of before.

        Raises:
            InputError: an id is unknown, stands twice or is one of training, features do not fit,
                or the growth is below 1.
        """
        places = self._places(ids)
        assert self.added is not None
        check_lengths(ids, features, contexts)
        before = self.added.take(places)
        held_by, unknown = self._context_rows(contexts or [()] * len(ids))
        if not replace:
            held_by = [np.union1d(*both) for both in zip(before.contexts, held_by, strict=True)]
        elif contexts is None:
            raise InputError("replace: expected contexts to put in the place of those of before")
        if growth is not None:
            check_growth(growth)
        table = before.table if features is None else self._schema.read_of(features)
        given = before.growth if growth is None else np.full(len(ids), float(growth))
        new = AddedItems(table, [one.astype(np.int32) for one in held_by], given)
        placed = with_borrowed(new, self._lenders, self._graph)
        vectors = self._embed(self.trained + places, new, placed)
        self.added = self.added.replaced(places, new)
        return self._told(ids, vectors, new, placed, unknown, features)

    def remove(self, ids: ExternalIds) -> None:
        """Take items away that were added before; the others' vectors stay as they are.

        Args:
            ids: external ids of added items.

        Raises:
            InputError: an id is unknown, stands twice or is one of training.
        """
        places, first = self._places(ids), self.trained
        assert self.added is not None
        kept = np.setdiff1d(np.arange(len(self.added)), places)
        behind = slice(first, first + len(kept))
        self._arrays = tuple(one.at[behind].set(one[first + kept]) for one in self._arrays)
        known = self.items.ids
        self.items = IdMap(known.head(first).append(known.slice(first).gather(kept)))
        self.added = self.added.take(kept) if len(kept) else None

    def _embed(self, rows: np.ndarray, new: AddedItems, placed: Borrowed) -> np.ndarray:
        """Embed items, write their layers to their rows, and give their vectors."""
        contexts, degrees = placed.contexts, placed.degrees
        encoded = self._schema.encode(new.table, degrees, self._text_encoders)
        if self._config.id_embedding:
            encoded |= {ID_INPUT: np.full((len(new), 1), -1, np.int32)}
        if self._structure is not None:
            encoded |= {STRUCTURE: self._structure.new_items(contexts, degrees)}
        # No walk comes to a new item: once it is embedded, the graph need not know it.
        graph = self._graph.with_room(sum(map(len, contexts))).with_items(rows, contexts)
        made: list[tuple[np.ndarray, tuple[Array, ...]]] = []
        model, config, layers = self._model, self._config, self._arrays[:-1]
        for start in range(0, len(new), BATCH):
            part = slice(start, start + BATCH)
            given = {name: filled(values[part]) for name, values in encoded.items()}
            filling = filled(rows[part].astype(np.int32))
            key = jax.random.fold_in(stream(config, "new items"), int(rows[start]))
            near = None
            if model.layers:
                walks, count = config.walk_config, config.neighbors
                near = walked_neighbors(key, graph, filling, count=count, config=walks)
            made.append((filling, embed_new(self._params, given, near, layers, model)))
        # Only now, so that an error leaves everything as it was.
        for filling, values in made:
            self._arrays = written(self._arrays, filling, values)
        return np.asarray(self._arrays[-1][rows])

    def _told(
        self,
        ids: ExternalIds,
        vectors: np.ndarray,
        new: AddedItems,
        placed: Borrowed,
        unknown: int,
        features: FeatureTable | None,
    ) -> Added:
        ignored = () if features is None else self._schema.ignored(features)
        alone = new.degrees() == 0
        borrowing = int((placed.degrees[alone] > 0).sum())
        return Added(list(ids), vectors, int(alone.sum()), borrowing, unknown, len(ignored))

    def similar(
        self, ids: ExternalIds, k: int | None = None, by: Similarity = "score"
    ) -> list[Neighbours]:
        """Find the k items with the highest scores for each given one, which is left out itself.

        Args:
            ids: external ids.
            k: how many are found for each, by default 20; where there are fewer other items, all
                of them are (and a UserWarning says so if k was given).
            by: ``score``, the inner product, in which well-known items have longer vectors; or
                ``cosine``, which compares directions.

        Raises:
            InputError: an id is unknown, k is below 1, or there is no such ``by``.
        """
        if by not in get_args(Similarity):
            raise InputError(f"by: expected score or cosine, got {by!r}")
        k = cut_to(k, len(self.items) - 1, "other items there are")
        rows = np.array([self.items.row(one) for one in ids], np.int32)
        found = nearest_in_batches(self._arrays[-1], rows, len(self.items), k, by)
        return [Neighbours(self.items.external(near), scores) for near, scores in found]

    def layer_rows(self, rows: np.ndarray) -> list[np.ndarray]:
        """Take the layers and, last, the vectors of chosen rows, to store them.

        Args:
            rows: ``int[n]``.
        """
        return [np.asarray(array[rows]) for array in self._arrays]

    def restore(self, ids: IdMap, arrays: Sequence[np.ndarray], added: AddedItems) -> None:
        """Take back items that were added before, with the rows that :meth:`layer_rows` returned.

        Args:
            ids: all items, the added ones last.
            arrays: layers and vectors of the added ones, ``float32[added, …]`` each.
            added: what is known of them.

        Raises:
            InputError: there is no room, or the arrays do not fit the ids.
        """
        self._check_room(len(added))
        shapes = [(len(added), *array.shape[1:]) for array in self._arrays]
        if [one.shape for one in arrays] != shapes or len(ids) != self.trained + len(added):
            raise InputError(
                f"added items: expected arrays of shapes {list(map(list, shapes))} for "
                f"{len(ids) - self.trained} ids, got {[list(one.shape) for one in arrays]}"
            )
        for one in added.contexts:
            check_rows("contexts", one, len(self.contexts))
        pairs, rows = zip(self._arrays, arrays, strict=True), slice(self.trained, len(ids))
        self._arrays = tuple(into.at[rows].set(one) for into, one in pairs)
        self.items, self.added = ids, added

    def _grown(self, ids: ExternalIds, features: FeatureTable, contexts: Contexts | None) -> IdMap:
        """The id map with the new items, checked."""
        if not len(ids):
            raise InputError("ids: expected at least one new item, got none")
        given = IdMap(as_ids(list(ids)))
        known = self.items.rows(given.ids)
        if (known >= 0).any():
            raise InputError(f"ids: item {ids[int(np.argmax(known >= 0))]!r} is known already")
        self._check_type(given.ids)
        check_lengths(ids, features, contexts)
        self._check_room(len(ids))
        return self.items.grow(list(ids))

    def _check_type(self, ids: pl.Series) -> None:
        """Refuse a string beside integers: all ids of the run would become strings."""
        if self.items.ids.dtype != pl.Int64 or ids.dtype != pl.String:
            return
        _, is_integer = canonical_integers(ids)
        if not is_integer.all():
            odd = ids.filter(pl.Series(~is_integer))
            spelling = same_but_for_spelling(odd, self.items)
            raise InputError(
                f"ids: expected integers, as all items of the run have ({self.items.ids[0]}, …), "
                f"got {odd[0]!r}" + (f"; {spelling}" if spelling else "")
            )

    def _places(self, ids: ExternalIds) -> np.ndarray:
        """The places among the added items."""
        if not len(ids):
            raise InputError("ids: expected at least one item that was added, got none")
        given = IdMap(as_ids(list(ids))).ids
        rows = self.items.rows(given).astype(np.int64)
        for odd, what in ((rows < 0, "is unknown"), (rows < self.trained, "is one of training")):
            if odd.any():
                raise InputError(
                    f"ids: expected items that were added to the run, of which there are "
                    f"{len(self.items) - self.trained:,}; {given[int(odd.argmax())]!r} {what}"
                )
        return rows - self.trained

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
            rows = self.contexts.rows(list(given)) if len(given) else np.zeros(0, np.int32)
            known.append(np.unique(rows[rows >= 0]))
            unknown += int((rows < 0).sum())
        return known, unknown
