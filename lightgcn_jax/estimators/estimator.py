"""One object from a table of interactions to recommendations, with scikit-learn's habits."""

from __future__ import annotations

import dataclasses
import importlib.util
import warnings
from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar, Literal, Self

import numpy as np
import polars as pl

from lightgcn_jax.data import Interactions, Split
from lightgcn_jax.data.pairs import Pairs, merge_pairs, pair_keys
from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators.chosen import check_names, make_config
from lightgcn_jax.estimators.fitting import OnEpoch, fit_given, reporter_of
from lightgcn_jax.estimators.given import Given, Named, given_data
from lightgcn_jax.evaluation import evaluate
from lightgcn_jax.evaluation.scorer import exact_scores
from lightgcn_jax.fields import scalar
from lightgcn_jax.graph.bipartite import csr_rows
from lightgcn_jax.models import ClosedForm, Model, Score
from lightgcn_jax.runs import ConsoleReporter, FitResult, RunDirectory, resume
from lightgcn_jax.runs.written import write_result
from lightgcn_jax.serving import Recommender
from lightgcn_jax.serving.answers import Ranked
from lightgcn_jax.settings import Config, model_name
from lightgcn_jax.shown import Shown, figures_line

AsFrame = bool | Literal["polars", "pandas"]
"""Whether an answer is a DataFrame: of polars, of pandas, or (True) of what ``fit`` was given."""
Fallback = Literal["popular"] | None
"""What somebody is recommended of whom the model knows nothing: popular items, or nothing."""

_SCORED_AT_ONCE = 256
_NAMED_IN_WARNINGS = 5


class Estimator(Shown):
    """A model that is fitted to a table of interactions, and answers in its ids.

    Settings are those of the command line, by name: ``LightGCN(dim=32, epochs=20)``.

    Args:
        unnamed: the model, for an estimator that is not called after one: ``Estimator(Mixed())``.
        preset: settings to put those given over: "default", "fast", "paper".
        loss: the name of a loss, a loss, or a function.
        negatives: how many there are, the name of a sampler, a sampler, or a function.
        score: the name of a score, or a score.
        optimizer: any optax transformation, in the place of Adam.
        verbose: whether progress and what is guessed are shown on stderr.
        settings: settings by name (``lightgcn-jax train --help``).

    Raises:
        InputError: settings that are unknown, or do not fit each other.
    """

    name: ClassVar[str | None] = None
    """The name of the model, of which the estimator has the settings."""

    def __init__(
        self,
        *unnamed: Any,
        preset: str | None = None,
        loss: Any = None,
        negatives: Any = None,
        score: Any = None,
        optimizer: Any = None,
        verbose: bool = True,
        **settings: Any,
    ):
        called = type(self).__name__
        self._model = self._model_of(unnamed)
        check_names(settings, called)
        strategies = {"loss": loss, "negatives": negatives, "score": score}
        self._given = {
            name: value
            for name, value in {"preset": preset, **strategies, **settings}.items()
            if value is not None
        }
        self.config: Config = make_config(self._model, preset, strategies, settings)
        if optimizer is not None and not self.config.is_trained:
            raise InputError(f"optimizer: {called} is fitted in one go and reads none")
        self.optimizer, self.verbose = optimizer, verbose
        self._result: FitResult | None = None
        self._choosing: FitResult | None = None
        self._columns, self._is_pandas = ("user", "item"), False
        self._known: tuple[Any, Any] | None = None

    def _model_of(self, unnamed: Sequence[Any]) -> str | Model | ClosedForm:
        called = type(self).__name__
        if self.name is not None:
            if unnamed:
                raise InputError(
                    f"{called}: settings are given by name, {called}(dim={unnamed[0]!r}); data go "
                    f"to fit"
                )
            return self.name
        if len(unnamed) != 1 or not isinstance(unnamed[0], (Model, ClosedForm)):
            raise InputError(
                f"{called}: expected one model, {called}(models.LightGCN()) for instance"
            )
        return unnamed[0]

    def as_model(self) -> Model | ClosedForm:
        """The model alone, for :func:`lightgcn_jax.fit` and :class:`TrainConfig`.

        Raises:
            InputError: other settings were given than the model's own, which would be lost.
        """
        model = self.config.model
        own = {field.name for field in dataclasses.fields(model)}
        lost = [name for name in self._given if name not in own]
        lost += ["optimizer"] if self.optimizer is not None else []
        if lost:
            raise InputError(
                f"{lost[0]}: is no setting of the model itself; fit(split, …) takes it from a "
                f"TrainConfig, or call {type(self).__name__}(…).fit(split)"
            )
        return model

    def fit(
        self,
        data: Any,
        items: Any = None,
        *,
        user: Any = None,
        item: Any = None,
        rating: Any = None,
        timestamp: Any = None,
        min_rating: float | None = None,
        on_epoch: OnEpoch | Sequence[OnEpoch] = (),
        out: Path | str | None = None,
    ) -> Self:
        """Fit the model.

        A :class:`~lightgcn_jax.data.Split` is trained on by its protocol: the epoch is chosen on
        validation and test is ranked once. Anything else is trained on whole, for a number of
        epochs that a tenth of it chose.

        Args:
            data: a pandas or polars frame (lazy too), an Arrow table, a mapping of columns, a SciPy
                sparse matrix, an array or list of pairs, a column of users, the path of a file or
                folder, the name of a data set, Interactions, or a Split.
            items: the column of items, where ``data`` is one of users.
            user: the column of users of a table; usual names are found without it. Of a sparse
                matrix the ids of its rows.
            item: likewise of items.
            rating: likewise of ratings, which ``min_rating`` reads.
            timestamp: likewise of times.
            min_rating: the least rating of an interaction to train on. Items that were rated lower
                are not recommended either.
            on_epoch: functions that receive the figures of each epoch: ``epoch``, ``loss``, and
                ``valid/recall@20`` and so on where it was evaluated. Where a part chooses the
                number of epochs, these are that run's.
            out: a new directory for the run, which can be resumed then; :meth:`save` writes one
                afterwards.

        Returns:
            The estimator itself.

        Raises:
            InputError: data or settings that do not fit.
        """
        given = given_data(data, items, Named(user, item, rating, timestamp), min_rating)
        reporter = reporter_of(self.config, self.verbose)
        for line in given.lines:
            reporter.noted(line)
        result, choosing = fit_given(
            given.data,
            self.config,
            reporter=reporter,
            on_epoch=[on_epoch] if callable(on_epoch) else list(on_epoch),
            optimizer=self.optimizer,
            out=out,
            about={"columns": list(given.names)},
        )
        self._take(result, given.names, given.is_pandas)
        self._choosing, self._known = choosing, _known_pairs(given, result.split)
        return self

    def _take(self, result: FitResult, columns: Sequence[str], is_pandas: bool) -> None:
        self._result, self._choosing, self._known = result, None, None
        self._columns, self._is_pandas = (columns[0], columns[1]), is_pandas
        self.__dict__.pop("recommender", None)

    @property
    def result(self) -> FitResult:
        """The run: its split, figures and history.

        Raises:
            InputError: nothing was fitted.
        """
        if self._result is None:
            called = type(self).__name__
            raise InputError(
                f"{called} is not fitted yet: call fit(data), or {called}.load(path) for a run"
            )
        return self._result

    @cached_property
    def recommender(self) -> Recommender:
        """What answers, beneath this object."""
        found = Recommender.from_fit(self.result)
        if self._known is None:
            return found
        # Who rated an item low has seen it.
        users, items = found.users.rows(self._known[0]), found.items.rows(self._known[1])
        inside = (users >= 0) & (items >= 0)
        split = self.result.split
        seen = merge_pairs(
            Pairs.from_rows(users[inside], items[inside]), split.train, split.valid, split.test
        )
        rows = csr_rows(seen.users, seen.items, len(split.users))
        return dataclasses.replace(found, seen=rows)

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
            exclude: ids of items to leave out.
            among: ids of items; only these may be recommended.
            exclude_seen: leave out what is known of a user: all of the data, held-out parts and
                low ratings included.
            fallback: ``"popular"`` recommends popular items to somebody of whom nothing is known
                (and warns); None gives None in a list, and an error for a single id.
            as_frame: give a DataFrame with the columns of users and items, ``rank`` and ``score``.

        Returns:
            For one id a :class:`~lightgcn_jax.serving.answers.Ranked` with ``ids`` and ``scores``;
            for several a list of them; or a DataFrame.

        Raises:
            InputError: an id of a filter is unknown, or k is below 1.
        """
        recommender, asked = self.recommender, scalar(users)
        if fallback not in ("popular", None):
            raise InputError(f"fallback: expected 'popular' or None, got {fallback!r}")
        is_single = asked is not None and (isinstance(asked, str) or not _is_many(asked))
        wanted = recommender.users.ids.to_list() if asked is None else [asked]
        wanted = wanted if asked is None or is_single else list(asked)
        filters = {"items": _several(among), "filter_items": _several(exclude)}
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
        popular = None
        if fallback and not known.all():
            popular = self._popular(k, among, exclude)
        found = [next(answers) if fine else popular for fine in known]
        if as_frame:
            return self._frame(wanted, found, as_frame, self._columns)
        return found[0] if is_single else found

    def _popular(self, k: int, among: Any, exclude: Any) -> Ranked:
        """The items with the most users, which anybody may be recommended."""
        items = self.recommender.items
        train = self.result.split.train
        counts = np.bincount(train.items, minlength=len(items)).astype(np.float32)
        allowed = np.full(len(items), among is None)
        for wanted, value in ((among, True), (exclude, False)):
            if wanted is not None:
                rows = items.rows(_several(wanted))
                allowed[rows[rows >= 0]] = value
        best = np.argsort(-counts, kind="stable")
        best = best[allowed[best]][:k]
        return Ranked(items.external(best), counts[best])

    def recommend_for(self, items: Iterable[Any], k: int = 10, *, as_frame: AsFrame = False) -> Any:
        """The items of highest score for somebody who is known by nothing but what they like.

        Args:
            items: ids of items that they like, which are not recommended.
            k: items wanted.
            as_frame: give a DataFrame.

        Raises:
            InputError: an item is unknown, or the model can't tell.
        """
        found = self.recommender.recommend_from(_several(items) or [], k)
        return self._frame([None], [found], as_frame, (None, self._columns[1]), found)

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
        return self._frame_of(items, found, as_frame, (name, f"similar_{name}"))

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
        return self._frame_of(users, found, as_frame, (name, f"similar_{name}"))

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
        given = {"user": scalar(users), "item": scalar(items)}
        maps = {"user": self.recommender.users, "item": self.recommender.items}
        rows = {}
        for kind, asked in given.items():
            several = _several(asked) or []
            rows[kind] = maps[kind].rows(several)
            if (rows[kind] < 0).any():
                odd = several[int((rows[kind] < 0).argmax())]
                raise InputError(
                    f"{kind}: unknown id {odd!r}; known ids look like {maps[kind].ids[0]!r}"
                )
        lengths = [len(one) for one in rows.values()]
        if 1 not in lengths and lengths[0] != lengths[1]:
            raise InputError(f"score: expected as many items as users, got {lengths[::-1]}")
        user_rows, item_rows = np.broadcast_arrays(rows["user"], rows["item"])
        distinct, places = np.unique(user_rows, return_inverse=True)
        scores = np.zeros(len(item_rows), np.float32)
        for start in range(0, len(distinct), _SCORED_AT_ONCE):
            block = distinct[start : start + _SCORED_AT_ONCE]
            table = np.asarray(exact_scores(self.result.scorer, block))
            inside = (places >= start) & (places < start + len(block))
            scores[inside] = table[item_rows[inside], places[inside] - start]
        return scores if any(_is_many(one) for one in given.values()) else float(scores[0])

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
        split, ks = self.result.split, tuple(k) if _is_many(k) else (k,)
        known = merge_pairs(split.train, split.valid)
        if test is None:
            if not len(split.test):
                raise InputError(
                    "test: the model was fitted on everything, so nothing was held out; pass test "
                    "data, or fit a split, fit(ratio_split(interactions))"
                )
            pairs, total = split.test, len(split.test)
        else:
            columns = Named(user or None, item or None, rating)
            if user is None and item is None and hasattr(test, "columns"):
                columns = self._own_columns(test, columns)
            users, items = _pairs_of(given_data(test, None, columns, min_rating).data)
            rows = split.users.rows(users), split.items.rows(items)
            inside = (rows[0] >= 0) & (rows[1] >= 0)
            pairs, total = Pairs.from_rows(rows[0][inside], rows[1][inside]), len(users)
        inside = np.isin(pairs.users, split.train.users) & np.isin(pairs.items, split.train.items)
        keys = [pair_keys(one.users, one.items) for one in (pairs, known)]
        fresh = inside & ~np.isin(*keys)
        repeated = int((inside & ~fresh).sum())
        if not fresh.any():
            raise InputError(
                f"test: expected pairs of known users and items that training does not hold, got "
                f"none among {total:,} ({repeated:,} were trained on)"
            )
        if self.verbose and fresh.sum() < total:
            ConsoleReporter().noted(
                f"{int(fresh.sum()):,} of {total:,} test pairs are looked for: {repeated:,} were "
                f"trained on, {total - int(fresh.sum()) - repeated:,} name a user or an item that "
                f"training does not know"
            )
        relevant = Pairs(pairs.users[fresh], pairs.items[fresh])
        return evaluate(self.result.scorer, relevant, ks=ks, seen=known).metrics

    def _own_columns(self, test: Any, columns: Named) -> Named:
        """The columns that were fitted, where a table has them."""
        names = list(test.columns)
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

    def save(self, path: Path | str) -> Path:
        """Write a run directory, as the commands read it too.

        Args:
            path: a new directory, or an empty one.

        Returns:
            The directory.

        Raises:
            InputError: it holds something, or nothing was fitted.
        """
        result = self.result
        kind = "none" if not self.config.is_trained else "adam" if not self.optimizer else "custom"
        about = {"columns": list(self._columns)}
        return write_result(result, path, data=about, optimizer=kind)

    @classmethod
    def load(
        cls,
        path: Path | str,
        *,
        model: Model | ClosedForm | None = None,
        score: Score | None = None,
        verbose: bool = True,
    ) -> Self:
        """Open a finished run.

        Args:
            path: its directory, from :meth:`save`, ``fit(…, out=…)`` or ``lightgcn-jax train``.
            model: the model that it was made with, where that is one of one's own.
            score: likewise the score.
            verbose: as an estimator takes it.

        Raises:
            InputError: there is no finished run, or one of another model.
        """
        run = RunDirectory.open(Path(path))
        run.finished_summary()
        result = resume(path, model=model, score=score)
        held = model_name(result.config)
        if cls.name not in (None, held):
            raise InputError(
                f"{path}: holds a run of {held}, not of {cls.name}; Estimator.load opens any run"
            )
        estimator = cls.__new__(cls)
        estimator.config, estimator._model, estimator._given = result.config, held, {}
        estimator.optimizer, estimator.verbose = None, verbose
        columns = run.data.get("columns", ("user", "item"))
        estimator._take(result, tuple(columns), False)
        return estimator

    @property
    def title(self) -> str:
        """The class with the settings that were given."""
        given = ", ".join(f"{name}={_short(value)}" for name, value in self._given.items())
        own = [] if isinstance(self._model, str) else [_short(self._model)]
        return f"{type(self).__name__}({', '.join(filter(None, [*own, given]))})"

    def facts(self) -> Mapping[str, Any]:
        """What it was fitted on, and how well."""
        if self._result is None:
            return {"fitted": "not yet, call fit(data)"}
        summary, split, chosen = self._result.summary, self._result.split, self._choosing
        epochs = f", {summary['epochs']} epochs" if self.config.is_trained else ""
        figures = [f"{part} {figures_line(summary[part])}" for part in ("test",) if summary[part]]
        if chosen is not None:
            figures = [f"before, on a tenth held out, {figures_line(chosen.summary['valid'])}"]
        return {
            "fitted": split.counts() + epochs,
            "figures": "; ".join(figures) or "none: nothing was held out",
        }

    def _frame_of(self, asked: Any, found: Any, as_frame: AsFrame, columns: tuple[str, str]) -> Any:
        asked = scalar(asked)
        if _is_many(asked):
            return self._frame(list(asked), found, as_frame, columns, found)
        return self._frame([asked], [found], as_frame, columns, found)

    def _frame(
        self,
        asked: Sequence[Any],
        found: Sequence[Ranked | None],
        as_frame: AsFrame,
        columns: tuple[str | None, str],
        plain: Any = None,
    ) -> Any:
        """Answers as a table, or as they are."""
        if not as_frame:
            return plain
        kinds = (True, "polars", "pandas")
        if as_frame not in kinds:
            raise InputError(f"as_frame: expected True, 'polars' or 'pandas', got {as_frame!r}")
        rows = [(one, ranked) for one, ranked in zip(asked, found, strict=True) if ranked]
        lengths = [len(ranked.ids) for _, ranked in rows]
        table = (
            {}
            if columns[0] is None
            else {
                columns[0]: [
                    one for (one, _), n in zip(rows, lengths, strict=True) for _ in range(n)
                ]
            }
        )
        table |= {
            columns[1]: [identifier for _, ranked in rows for identifier in ranked.ids],
            "rank": [place + 1 for n in lengths for place in range(n)],
            "score": np.concatenate([ranked.scores for _, ranked in rows] or [np.zeros(0)]),
        }
        if as_frame == "pandas" or (as_frame is True and self._is_pandas):
            if importlib.util.find_spec("pandas") is None:
                raise InputError("as_frame: pandas is not installed; as_frame='polars' needs none")
            return importlib.import_module("pandas").DataFrame(table)
        return pl.DataFrame(table)


def _known_pairs(given: Given, split: Split) -> tuple[Any, Any] | None:
    """The ids of all pairs that came, where some of them are not in the split."""
    read: Interactions | None = given.interactions
    if read is None or len(read) == len(split.train):
        return None
    return read.users.ids.gather(read.user_rows), read.items.ids.gather(read.item_rows)


def _pairs_of(data: Split | Interactions) -> tuple[pl.Series, pl.Series]:
    """The ids of the pairs that should be found: of a split its test part."""
    if isinstance(data, Split):
        users, items = data.test.users, data.test.items
    else:
        users, items = data.user_rows, data.item_rows
    return data.users.ids.gather(users), data.items.ids.gather(items)


def _is_many(value: Any) -> bool:
    return isinstance(value, Iterable) and not isinstance(value, (str, bytes))


def _several(value: Any) -> list[Any] | None:
    """One or several as a list; None as it is."""
    if value is None:
        return None
    value = scalar(value)
    return list(value) if _is_many(value) else [value]


def _warn_of_unknown(unknown: Sequence[Any], answer: str) -> None:
    if unknown:
        named = ", ".join(map(repr, unknown[:_NAMED_IN_WARNINGS]))
        more = len(unknown) - _NAMED_IN_WARNINGS
        named += f" and {more:,} more" if more > 0 else ""
        message = f"nothing is known of the users {named}: {answer}"
        warnings.warn(message, UserWarning, stacklevel=3)


def _short(value: Any) -> str:
    text = getattr(value, "__name__", None) or repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
