"""What a fitted model answers, in the ids of the outside world."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property
from typing import Any, Literal, NamedTuple

import numpy as np

from lightgcn_jax.data.pairs import merge_pairs
from lightgcn_jax.errors import InputError, warn
from lightgcn_jax.estimators.arguments import suggests
from lightgcn_jax.estimators.given import Named, given_data, names_of
from lightgcn_jax.estimators.judged import held_out, pairs_of, scores_of, to_be_found
from lightgcn_jax.estimators.tables import Kind, as_filter, as_list, frame_of, is_many
from lightgcn_jax.evaluation import evaluate
from lightgcn_jax.fields import scalar
from lightgcn_jax.runs import ConsoleReporter, FitResult
from lightgcn_jax.serving import Recommender
from lightgcn_jax.serving.answers import Answer, ItemSet, Ranked
from lightgcn_jax.serving.filters import of_user
from lightgcn_jax.shown import Shown

AsFrame = bool | Kind
"""Whether an answer is a DataFrame: of polars, of pandas, or (True) of what ``fit`` was given."""
Fallback = Literal["popular"] | None
"""What somebody is recommended of whom the model knows nothing: popular items, or nothing."""

_NAMED_IN_WARNINGS = 5


class Fitted(NamedTuple):
    """What a fit leaves.

    Attributes:
        result: the run.
        choosing: the run that chose its number of epochs; None where there was none.
        columns: what users and items are called where they came from.
        is_pandas: whether they came in a pandas frame.
        own_optimizer: whether something else than Adam trained.
    """

    result: FitResult
    choosing: FitResult | None = None
    columns: tuple[str, str] = ("user", "item")
    is_pandas: bool = False
    own_optimizer: bool = False


class Answering(Shown):
    """An object that recommends once it is fitted."""

    verbose: bool = True
    _fitted: Fitted | None = None

    @property
    def _columns(self) -> tuple[str, str]:
        return ("user", "item") if self._fitted is None else self._fitted.columns

    @property
    def result(self) -> FitResult:
        """The run: its split, figures and history.

        Raises:
            InputError: nothing was fitted.
        """
        if self._fitted is None:
            called = type(self).__name__
            raise InputError(
                f"{called} is not fitted yet: call fit(data), or {called}.load(path) for a run"
            )
        return self._fitted.result

    def item_set(self, items: Any) -> ItemSet:
        """Items for the filters of many calls, which need not look them up each time:
        ``recommend(user, among=in_stock)`` with ``in_stock = model.item_set(ids)``.

        Args:
            items: ids of items, an array of them at best.

        Raises:
            InputError: an item is unknown.
        """
        return self.recommender.item_set(items)

    @cached_property
    def recommender(self) -> Recommender:
        """What answers, beneath this object."""
        return Recommender.from_fit(self.result)

    @suggests
    def recommend(
        self,
        users: Any = None,
        k: int = 10,
        *,
        exclude: Any = None,
        among: Any = None,
        exclude_seen: bool = True,
        fallback: Fallback = "popular",
        as_frame: AsFrame = False,
    ) -> Any:
        """The items of highest score for one user, for several, or for everybody.

        Args:
            users: an id, several, or None for all users.
            k: items for each.
            exclude: ids of items to leave out for everybody; or for each user, a mapping from users
                to items or a table of users and items.
            among: ids of items; only these may be recommended; or for each user, likewise.
            exclude_seen: leave out what is known of a user: all of the data, held-out parts and
                low ratings included.
            fallback: ``"popular"`` recommends popular items to somebody of whom nothing is known
                (and warns); None gives None in a list, and an error for a single id.
            as_frame: give a DataFrame with the columns of users and items, ``title`` where the
                data have titles, ``rank`` and ``score``.

        Returns:
            For one id a :class:`~lightgcn_jax.serving.answers.Ranked` with ``ids`` and ``scores``;
            for several a list of them; or a DataFrame.

        Raises:
            InputError: an id of a filter is unknown, or k is below 1.
        """
        recommender, asked = self.recommender, scalar(users)
        if fallback not in ("popular", None):
            raise InputError(f"fallback: expected 'popular' or None, got {fallback!r}")
        is_single = asked is not None and (isinstance(asked, str) or not is_many(asked))
        wanted = recommender.users.ids.to_list() if asked is None else [asked]
        wanted = wanted if asked is None or is_single else list(asked)
        among = as_filter(among, "among", self._columns)
        exclude = as_filter(exclude, "exclude", self._columns)
        filters = {"among": among, "exclude": exclude}
        rows = recommender.users.rows(wanted)
        known = rows >= 0
        if fallback is None:
            known &= recommender.knows_user(wanted)
            if is_single and not known[0]:
                raise InputError(
                    f"user: nothing is known of {asked!r}; fallback='popular' recommends popular "
                    "items"
                )
        unknown = [one for one, fine in zip(wanted, known, strict=True) if not fine]
        _warn_of_unknown(unknown, "popular items are the answer" if fallback else "no items are")
        asked_of = [one for one, fine in zip(wanted, known, strict=True) if fine]
        answers = iter(
            recommender.recommend(asked_of, k, exclude_seen, **filters) if asked_of else ()
        )

        def popular(user: Any) -> Ranked | None:
            own = (of_user(among, user, "among"), of_user(exclude, user, "exclude"))
            return self._popular(k, *own) if fallback else None

        found = [
            next(answers) if fine else popular(one) for one, fine in zip(wanted, known, strict=True)
        ]
        answer: Any = found[0] if is_single else found
        return self._answer(wanted, answer, as_frame, self._columns)

    def _popular(self, k: int, among: Any, exclude: Any) -> Ranked:
        """The items with the most users, which anybody may be recommended."""
        items = self.recommender.items
        counts, best = self._popularity
        allowed = np.full(len(items), among is None)
        for wanted, value in ((among, True), (exclude, False)):
            if wanted is not None:
                rows = items.rows(as_list(wanted))
                allowed[rows[rows >= 0]] = value
        best = best[allowed[best]][:k]
        return Ranked(items.external(best), counts[best])

    @cached_property
    def _popularity(self) -> tuple[np.ndarray, np.ndarray]:
        """Each item's number of training users, and the items from the most to the fewest."""
        split = self.result.split
        counts = np.bincount(split.train.items, minlength=len(split.items)).astype(np.float32)
        return counts, np.argsort(-counts, kind="stable")

    @suggests
    def recommend_for(self, items: Iterable[Any], k: int = 10, *, as_frame: AsFrame = False) -> Any:
        """The items of highest score for somebody who is known by nothing but what they like.

        Args:
            items: ids of items that they like, which are not recommended.
            k: items wanted.
            as_frame: give a DataFrame.

        Raises:
            InputError: an item is unknown, or the model can't tell.
        """
        found = self.recommender.recommend_from(as_list(items) or [], k)
        return self._answer(None, found, as_frame, (None, self._columns[1]))

    @suggests
    def similar_items(self, items: Any, k: int = 10, *, as_frame: AsFrame = False) -> Any:
        """The items that are most like one item, or like each of several.

        Args:
            items: an id, or several.
            k: neighbours of each.
            as_frame: give a DataFrame.

        Raises:
            InputError: the single item is unknown, or the model compares no items.
        """
        found = self.recommender.similar_items(items, k)
        name = self._columns[1]
        return self._answer(items, found, as_frame, (name, f"similar_{name}"))

    @suggests
    def similar_users(self, users: Any, k: int = 10, *, as_frame: AsFrame = False) -> Any:
        """The users who are most like one user, or like each of several.

        Args:
            users: an id, or several.
            k: neighbours of each.
            as_frame: give a DataFrame.

        Raises:
            InputError: the single user is unknown, or the model compares no users.
        """
        found = self.recommender.similar_users(users, k)
        name = self._columns[0]
        return self._answer(users, found, as_frame, (name, f"similar_{name}"))

    @suggests
    def score(self, users: Any, items: Any) -> Any:
        """The model's score of a user and an item, or of several pairs.

        Args:
            users: an id, or n of them.
            items: an id, or n of them; one user or one item counts for all.

        Returns:
            A number, or ``float32[n]``.

        Raises:
            InputError: an id is unknown, or the lengths differ.
        """
        recommender = self.recommender
        return scores_of(self.result.scorer, recommender.users, recommender.items, users, items)

    @suggests
    def evaluate(
        self,
        test: Any = None,
        k: int | Sequence[int] = 20,
        *,
        user: Any = None,
        item: Any = None,
        rating: Any = None,
        min_rating: float | None = None,
    ) -> dict[str, float]:
        """How well the model finds what users took later, ranked among all items.

        What users had in training is left out of the ranking, and pairs of users and items that
        training does not know are left out of the means; both are said.

        Args:
            test: data as :meth:`fit` takes them; None for the test part of the split that was
                fitted.
            k: the cut-off, or several.
            user: the column of users of a table.
            item: likewise of items.
            rating: likewise of ratings.
            min_rating: the least rating of an item that should be found.

        Returns:
            Metrics by name: ``recall@20``, ``ndcg@20`` and so on.

        Raises:
            InputError: nothing is left to be found.
        """
        split, ks = self.result.split, as_list(k) or []
        if test is None:
            pairs = held_out(split)
        else:
            named = Named(user, item, rating)
            if user is None and item is None:
                named = self._own_columns(test, named)
            pairs = pairs_of(given_data(test, None, named, min_rating).data)
        relevant, note = to_be_found(split, *pairs)
        if self.verbose and note:
            ConsoleReporter().noted(note)
        known = merge_pairs(split.train, split.valid)
        return evaluate(self.result.scorer, relevant, ks=ks, seen=known).metrics

    def _own_columns(self, test: Any, columns: Named) -> Named:
        """The columns that were fitted, where a table has them."""
        names = names_of(test) or ()
        if all(name in names for name in self._columns):
            return columns._replace(user=self._columns[0], item=self._columns[1])
        return columns

    @property
    def user_ids(self) -> list[int | str]:
        """The ids of the rows of :attr:`user_embeddings`."""
        return self.result.split.users.ids.to_list()

    @property
    def item_ids(self) -> list[int | str]:
        """The ids of the rows of :attr:`item_embeddings`."""
        return self.result.split.items.ids.to_list()

    @property
    def user_embeddings(self) -> np.ndarray:
        """``float32[U, D]`` in the order of :attr:`user_ids`; InputError where there are none."""
        return self.recommender.user_embeddings

    @property
    def item_embeddings(self) -> np.ndarray:
        """``float32[I, D]`` in the order of :attr:`item_ids`; InputError where there are none."""
        return self.recommender.item_embeddings

    def _answer(
        self, asked: Any, found: Answer, as_frame: AsFrame, columns: tuple[str | None, str]
    ) -> Any:
        """Answers as they are, or as a table."""
        if as_frame is False:
            return found
        kind = (
            ("pandas" if self._fitted and self._fitted.is_pandas else "polars")
            if as_frame is True
            else as_frame
        )
        titles = self.recommender.titles if columns[1] in self._titled else None
        return frame_of(asked, found, kind, columns, titles)

    @property
    def _titled(self) -> tuple[str, str]:
        """What columns of items are called in answers."""
        return self._columns[1], f"similar_{self._columns[1]}"


def _warn_of_unknown(unknown: Sequence[Any], answer: str) -> None:
    if unknown:
        named = ", ".join(map(repr, unknown[:_NAMED_IN_WARNINGS]))
        more = len(unknown) - _NAMED_IN_WARNINGS
        named += f" and {more:,} more" if more > 0 else ""
        message = f"nothing is known of the users {named}: {answer}"
        warn(message)
