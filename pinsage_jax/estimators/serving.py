"""What a fitted encoder answers, in the ids of the outside world, and how it takes new items."""

from __future__ import annotations

import shutil
import tempfile
import weakref
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from lightgcn_jax.errors import InputError, naming, warn
from lightgcn_jax.estimators.arguments import suggests
from lightgcn_jax.estimators.tables import as_filter, as_list, frame_of, is_many
from lightgcn_jax.fields import scalar
from lightgcn_jax.serving.answers import ItemSet, Ranked
from lightgcn_jax.shown import Shown
from pinsage_jax.estimators.given import feature_frame, lists_of
from pinsage_jax.estimators.recommending import ContextRecommender
from pinsage_jax.features.columns import Kind
from pinsage_jax.features.files import items_of_frame
from pinsage_jax.features.table import FeatureTable
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import FinishedRun, features_of, open_items, read_finished
from pinsage_jax.serving.added_items import Added
from pinsage_jax.serving.item_titles import titles_of
from pinsage_jax.serving.live_items import GROWTH, LiveItems


class Scratch:
    """A folder that goes when the last who holds this goes."""

    def __init__(self):
        self.path = Path(tempfile.mkdtemp(prefix="pinsage-"))
        weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)


class Fitted(NamedTuple):
    """What a fit leaves.

    Attributes:
        path: where the run lies.
        columns: what contexts and items are called where they came from.
        is_pandas: whether they came in a pandas frame.
        folder: the folder that holds the run and goes with it; None where it stays.
    """

    path: Path
    columns: tuple[str, str]
    is_pandas: bool
    folder: Scratch | None


class Serving(Shown):
    """An object that compares and recommends items once it is fitted."""

    _fitted: Fitted | None = None

    def _take(self, fitted: Fitted) -> None:
        self._fitted = fitted
        for name in ("live", "run", "recommender"):
            self.__dict__.pop(name, None)  # Those of an earlier fit.

    @property
    def _now(self) -> Fitted:
        if self._fitted is None:
            raise InputError(
                "PinSage is not fitted yet: call fit(contexts, features), or PinSage.load(path)"
            )
        return self._fitted

    @cached_property
    def live(self) -> LiveItems:
        """All items, those that were added included, beneath this object."""
        return open_items(self._now.path)

    @cached_property
    def run(self) -> FinishedRun:
        """The encoder and the task that it was trained on."""
        return read_finished(self._now.path)

    @suggests
    def similar(self, items: Any, k: int = 10, *, as_frame: Any = False) -> Any:
        """The items that score highest for one item, or for each of several.

        Args:
            items: an id, or several; those that were added included.
            k: how many for each.
            as_frame: give a DataFrame (``True``, ``"polars"``, ``"pandas"``).

        Raises:
            InputError: an id is unknown, or k is below 1.
        """
        asked = scalar(items)
        near = self.live.similar(as_list(asked) or [], k)
        found = [Ranked(one.ids, one.scores) for one in near]
        name = self._now.columns[1]
        return self._answer(asked, found, as_frame, (name, f"similar_{name}"))

    @suggests
    def recommend(
        self,
        contexts: Any = None,
        k: int = 10,
        *,
        exclude: Any = None,
        among: Any = None,
        exclude_seen: bool = True,
        as_frame: Any = False,
    ) -> Any:
        """The items that go with what a context holds: of a user, what may come next.

        The query is made of the context's latest items, as many as the task has, in training and in
        what was held out.

        Args:
            contexts: the id of a user, a basket or a board, several, or None for all.
            k: items for each.
            exclude: ids of items to leave out for everybody; or for each context, a mapping from
                contexts to items or a table of contexts and items.
            among: ids of items; only these may be recommended; or for each context, likewise.
            exclude_seen: leave out the items that the context holds.
            as_frame: give a DataFrame (``True``, ``"polars"``, ``"pandas"``).

        Returns:
            For one id a :class:`~lightgcn_jax.serving.answers.Ranked`; for several a list, None
            where an id is unknown or holds no item (a UserWarning names these).

        Raises:
            InputError: the single id is unknown, or one of ``exclude``.
        """
        recommender = self.recommender
        asked = recommender.users.ids.to_list() if contexts is None else scalar(contexts)
        wanted = as_list(asked) or []
        held = recommender.knows_user(wanted)
        unknown = [one for one, fine in zip(wanted, held, strict=True) if not fine]
        if unknown and not is_many(asked):
            raise InputError(
                f"context: nothing is known of {asked!r}; known ids look like "
                f"{recommender.users.ids[0]!r}"
            )
        if unknown:
            named = ", ".join(map(repr, unknown[:5]))
            warn(f"nothing is known of {named}: no items are")
        filters = self._filters(among, exclude)
        found = recommender.recommend(wanted, k, exclude_seen, **filters)
        return self._answer(asked, found, as_frame, self._now.columns)

    @suggests
    def recommend_for(
        self,
        items: Any,
        k: int = 10,
        *,
        exclude: Any = None,
        among: Any = None,
        as_frame: Any = False,
    ) -> Any:
        """The items that go with some: for somebody who is known by nothing but what they hold.

        Args:
            items: an id, or several, which are not recommended; those that were added included.
            k: items wanted.
            exclude: ids of items to leave out.
            among: ids of items; only these may be recommended.
            as_frame: give a DataFrame (``True``, ``"polars"``, ``"pandas"``).

        Raises:
            InputError: an item is unknown, there is none, or k is below 1.
        """
        filters = self._filters(among, exclude)
        found = self.recommender.recommend_from(as_list(items) or [], k, **filters)
        if as_frame is False:
            return found
        return self._frame(None, [found], as_frame, (None, self._now.columns[1]))

    def _filters(self, among: Any, exclude: Any) -> dict[str, Any]:
        given = {"among": among, "exclude": exclude}
        return {name: as_filter(one, name, self._now.columns) for name, one in given.items()}

    @cached_property
    def recommender(self) -> ContextRecommender:
        """What recommends to contexts, beneath this object."""
        return ContextRecommender(self._now.path, self.run, self.live)

    def item_set(self, items: Any) -> ItemSet:
        """Items for the filters of many calls, which need not look them up each time.

        Args:
            items: ids of items, an array of them at best.

        Raises:
            InputError: an item is unknown.
        """
        return ItemSet.among(self.live.items, items)

    @suggests
    def add(
        self,
        items: Any,
        contexts: Any = None,
        *,
        id_column: str | None = None,
        growth: float = GROWTH,
    ) -> Added:
        """Give new items vectors, without training again; :meth:`similar` finds them at once.

        Args:
            items: a row for each: its id and its features, as :meth:`fit` takes features.
            contexts: contexts of the run that hold them: a mapping from items to lists, a list for
                each item, or a table of memberships; None for none.
            id_column: the column of ids, as in :meth:`fit`.
            growth: how many times as many contexts as it is in a new item counts as in.

        Raises:
            InputError: an item is known already, or its features are not the run's.
        """
        ids, table = self._items(items, id_column)
        held = lists_of(contexts, ids, self._now.columns)
        return self.live.add(ids.to_list(), table, held, growth)

    @suggests
    def update(
        self,
        items: Any,
        contexts: Any = None,
        *,
        id_column: str | None = None,
        replace: bool = False,
    ) -> Added:
        """Give items that were added new features, further contexts, or both.

        Args:
            items: a row of features for each, as :meth:`add` takes them; or ids alone, which keep
                their features.
            contexts: as in :meth:`add`.
            id_column: the column of ids.
            replace: whether the contexts take the place of those of before.

        Raises:
            InputError: an item was not added.
        """
        ids, table = None, None
        if isinstance(items, (str, int)) or not hasattr(items, "columns"):
            ids = as_list(items) if not isinstance(items, Mapping) else None
        if ids is None:
            series, table = self._items(items, id_column)
            ids = series.to_list()
        series = self.live.items.ids.filter(self.live.items.ids.is_in(ids))
        held = lists_of(contexts, type(series)(values=ids), self._now.columns)
        return self.live.update(ids, table, held, replace=replace)

    def remove(self, items: Any) -> None:
        """Take items away that were added.

        Args:
            items: an id, or several.

        Raises:
            InputError: an item was not added.
        """
        self.live.remove(as_list(items) or [])

    def _items(self, items: Any, id_column: str | None) -> tuple[Any, FeatureTable]:
        kinds: dict[str, Kind] = {one.name: one.kind for one in self.run.schema.columns}
        frame, id_column, _ = feature_frame(items, id_column, self._now.columns[1], None)
        known: dict[str, Kind] = {
            name: kind for name, kind in kinds.items() if name in frame.columns
        }
        with naming(Path("items")):
            return items_of_frame(frame, id_column, kinds=known)

    def evaluate(self) -> dict[str, float]:
        """The figures of the held-out test pairs, ranked among all training items, by name."""
        return self._summary["test"]

    @property
    def _summary(self) -> dict[str, Any]:
        return PinSageRun.open(self._now.path).summary

    @property
    def item_ids(self) -> list[int | str]:
        """The ids of the rows of :attr:`item_embeddings`, added items last."""
        return self.live.items.ids.to_list()

    @property
    def item_embeddings(self) -> np.ndarray:
        """``float32[items, D]`` in the order of :attr:`item_ids`."""
        return self.live.vectors

    def _answer(self, asked: Any, found: list[Any], as_frame: Any, columns: tuple[str, str]) -> Any:
        if as_frame is False:
            return found if is_many(asked) else found[0]
        return self._frame(asked, found, as_frame, columns)

    def _frame(
        self, asked: Any, found: list[Any], as_frame: Any, columns: tuple[str | None, str]
    ) -> Any:
        kind = ("pandas" if self._now.is_pandas else "polars") if as_frame is True else as_frame
        titles = titles_of(features_of(self._now.path, self.live), self.live.items)
        return frame_of(asked, found, kind, columns, titles)
