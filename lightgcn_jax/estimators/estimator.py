"""One object from a table of interactions to recommendations, with scikit-learn's habits."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Self, cast

import optax

from lightgcn_jax.data import Interactions, Split
from lightgcn_jax.data.also_seen import SeenIds
from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators.answering import Answering, Fitted
from lightgcn_jax.estimators.arguments import suggests
from lightgcn_jax.estimators.chosen import changed_settings, check_names, make_config
from lightgcn_jax.estimators.fitting import OnEpoch, fit_given, listeners, reporter_of
from lightgcn_jax.estimators.given import Given, Named, given_data
from lightgcn_jax.estimators.parameters import Parameters
from lightgcn_jax.models import ClosedForm, Model, Score
from lightgcn_jax.runs import RunDirectory, resume
from lightgcn_jax.runs.own_objects import MISSING_OPTIMIZER, check_complete
from lightgcn_jax.runs.written import write_result
from lightgcn_jax.settings import Config, for_catalogue, model_name
from lightgcn_jax.settings.registry import StandIn
from lightgcn_jax.shown import figures_line
from lightgcn_jax.training.losses import Loss


class Estimator(Parameters, Answering):
    """A model that is fitted to a table of interactions, and answers in its ids.

    Settings are those of the command line, by name: ``LightGCN(dim=32, epochs=20)``.

    Args:
        unnamed: the model, for an estimator that is not called after one: ``Estimator(Mixed())``.
        model: the same by name.
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
        model: Any = None,
        preset: str | None = None,
        loss: Any = None,
        negatives: Any = None,
        score: Any = None,
        optimizer: Any = None,
        verbose: bool = True,
        **settings: Any,
    ):
        called = type(self).__name__
        named = {} if model is None else {"model": model}
        if self.name is None:
            unnamed = (*unnamed, *named.values())
        else:
            settings |= named  # Refused as one that it has not.
        self._model = self._model_of(unnamed)
        check_names(settings, called, of_fit=inspect.signature(self.fit).parameters)
        strategies = {"loss": loss, "negatives": negatives, "score": score}
        chosen = {"preset": preset, **strategies}
        self._given = {name: value for name, value in chosen.items() if value is not None}
        self._given |= settings
        self.config: Config = make_config(self._model, preset, strategies, settings)
        if optimizer is not None and not self.config.is_trained:
            raise InputError(f"optimizer: {called} is fitted in one go and reads none")
        self.optimizer, self.verbose = optimizer, verbose

    def arguments(self) -> Mapping[str, Any]:
        own = dict.fromkeys(("preset", "loss", "negatives", "score"))
        own |= {"optimizer": self.optimizer, "verbose": self.verbose, **self._given}
        if self.name is None:
            own["model"] = self.config.model if isinstance(self._model, str) else self._model
        return own

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
        own = {field.name for field in dataclasses.fields(cast(Any, model))}
        lost = [name for name in self._given if name not in own]
        lost += ["optimizer"] if self.optimizer is not None else []
        if lost:
            raise InputError(
                f"{lost[0]}: is no setting of the model itself; fit(split, …) takes it from a "
                f"TrainConfig, or call {type(self).__name__}(…).fit(split)"
            )
        return model

    @suggests
    def fit(
        self,
        data: Any,
        items: Any = None,
        *,
        user: Any = None,
        item: Any = None,
        rating: Any = None,
        timestamp: Any = None,
        weight: Any = None,
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
            weight: the column of weights above 0, which weigh interactions in graph and loss; those
                of a pair's rows add up.
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
            InputError: data or settings that do not fit, or an object of one's own is missing that
                a loaded run was made with.
        """
        check_complete(self.config, self.optimizer)
        given = given_data(data, items, Named(user, item, rating, timestamp, weight), min_rating)
        reporter = reporter_of(self.config, self.verbose)
        for line in given.lines:
            reporter.noted(line)
        config, settled = self._settled(given.data)
        if settled:
            reporter.noted(settled)
        result, choosing = fit_given(
            given.data,
            config,
            reporter=reporter,
            on_epoch=listeners(on_epoch),
            optimizer=self.optimizer,
            out=out,
            about={"columns": list(given.names)},
            also_seen=_also_seen(given),
        )
        own = self.optimizer is not None
        self._take(Fitted(result, choosing, given.names, given.is_pandas, own))
        return self

    def _settled(self, data: Split | Interactions) -> tuple[Config, str | None]:
        """The settings for a catalogue of this size, and what was settled by it."""
        items = len(data.items)
        return for_catalogue(self.config, self._given.get("preset"), items, self._given)

    def _take(self, fitted: Fitted) -> None:
        self._fitted = fitted
        for name in ("recommender", "_popularity"):  # Those of an earlier fit.
            self.__dict__.pop(name, None)

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
        kind = "custom" if self._fitted and self._fitted.own_optimizer else "adam"
        kind = kind if result.config.is_trained else "none"
        about = {"columns": list(self._columns)}
        return write_result(result, path, data=about, optimizer=kind)

    @classmethod
    @suggests
    def load(
        cls,
        path: Path | str,
        *,
        model: Model | ClosedForm | None = None,
        score: Score | None = None,
        loss: Loss | None = None,
        negatives: Any = None,
        optimizer: optax.GradientTransformation | None = None,
        verbose: bool = True,
    ) -> Self:
        """Open a finished run.

        Objects of one's own are not on disk. What answers needs the model or the score again; a
        loss, a sampler and an optimizer are asked for where the estimator is fitted again.

        Args:
            path: its directory, from :meth:`save`, ``fit(…, out=…)`` or ``lightgcn-jax train``.
            model: the model that it was made with, where that is one of one's own.
            score: likewise the score.
            loss: likewise the loss.
            negatives: likewise the sampler.
            optimizer: likewise the optimizer.
            verbose: as an estimator takes it.

        Raises:
            InputError: there is no finished run, one of another model, or one that was made with
                other objects.
        """
        run = RunDirectory.open(Path(path))
        run.finished_summary()
        if optimizer is not None and run.optimizer != "custom":
            raise InputError(f"optimizer: expected none, as {path} was trained by Adam or by none")
        result = resume(path, model=model, score=score, loss=loss, negatives=negatives)
        held = model_name(result.config)
        if cls.name not in (None, held):
            raise InputError(
                f"{path}: holds a run of {held}, not of {cls.name}; Estimator.load opens any run"
            )
        estimator = cls.__new__(cls)
        estimator.config, estimator._model = result.config, held
        estimator._given = changed_settings(result.config)
        missing = MISSING_OPTIMIZER if run.optimizer == "custom" else None
        estimator.optimizer, estimator.verbose = optimizer or missing, verbose
        columns = run.data.get("columns", ("user", "item"))
        named = (columns[0], columns[1])
        estimator._take(Fitted(result, columns=named, own_optimizer=run.optimizer == "custom"))
        return estimator

    @property
    def title(self) -> str:
        """The class with the settings that were given."""
        model = self._model if isinstance(self._model, str) else _short(self._model)
        stated = [model] if self.name is None else []
        stated += [f"{name}={_short(value)}" for name, value in self._given.items()]
        stated += [] if self.optimizer is None else ["optimizer=one of your own"]
        return f"{type(self).__name__}({', '.join(stated)})"

    def facts(self) -> Mapping[str, Any]:
        """What it was fitted on, and how well."""
        if self._fitted is None:
            return {"fitted": "not yet, call fit(data)"}
        result, chosen = self._fitted.result, self._fitted.choosing
        summary, split = result.summary, result.split
        epochs = f", {summary['epochs']} epochs" if result.config.is_trained else ""
        figures = [f"{part} {figures_line(summary[part])}" for part in ("test",) if summary[part]]
        if chosen is not None:
            figures = [f"before, on a tenth held out, {figures_line(chosen.summary['valid'])}"]
        return {
            "fitted": split.counts() + epochs,
            "figures": "; ".join(figures) or "none: nothing was held out",
        }


def _also_seen(given: Given) -> SeenIds | None:
    """All pairs that came, where not all of them are trained on: who rated an item low has seen
    it."""
    read, kept = given.interactions, given.data
    if read is None or (isinstance(kept, Interactions) and len(read) == len(kept)):
        return None
    return SeenIds.of(read)


def _short(value: Any) -> str:
    text = value.description if isinstance(value, StandIn) else getattr(value, "__name__", None)
    text = text or repr(value)
    return text if len(text) <= 40 else text[:39] + "…"
