"""The command rank: a second stage for a finished run, trained and judged."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Annotated

import tyro

from lightgcn_jax.cli.compare import interval_text, p_text
from lightgcn_jax.cli.console import results, say, table
from lightgcn_jax.cli.runs import RunPath, Switch
from lightgcn_jax.cli.settings import File, flag
from lightgcn_jax.data import Interactions, load_dataset, read_interactions
from lightgcn_jax.runs import RunDirectory
from lightgcn_jax.serving.two_stage import RankerConfig, evaluate_ranked_run, train_run
from lightgcn_jax.serving.two_stage.ranker import RankerLoss
from lightgcn_jax.serving.two_stage.training import SELECT_BY


@dataclass(frozen=True)
class Train:
    """Train a second stage on the candidates that the run returns for its users.

    Validation pairs are what it learns to put first; test is not looked at. `recommend --ranked`
    answers by it, and `rank evaluate` judges it.

    Attributes:
        run_path: the run directory, into which the second stage is written.
        events: the log that the run was made of, with times, for recent items and for when items
            were taken; of a run of a named data set these are known.
        loss: a positive against all candidates (`softmax`), or against drawn ones (`bpr`).
        epochs: at most so many; it ends when validation has not risen for five.
        seed: of the initial values and of all draws.
    """

    run_path: RunPath
    events: File = None
    loss: RankerLoss = RankerConfig.loss
    epochs: Annotated[int, flag("N")] = RankerConfig.epochs
    seed: Annotated[int, flag("N")] = RankerConfig.seed

    def run(self) -> int:
        config = RankerConfig(loss=self.loss, epochs=self.epochs, seed=self.seed)
        ranked = train_run(self.run_path, config, events=self._events())
        trained = ranked.trained
        before, best = (trained.history[epoch][SELECT_BY] for epoch in (0, trained.best_epoch))
        say(
            f"{SELECT_BY} of validation users: {before:.4f} in the order of the model, {best:.4f} "
            f"after epoch {trained.best_epoch} of {len(trained.history) - 1}"
        )
        say(f"wrote the second stage into {self.run_path}")
        return 0

    def _events(self) -> Interactions | None:
        if self.events is not None:
            return read_interactions(self.events)
        name = RunDirectory.open(self.run_path).data.get("dataset")
        if name is None:
            return None
        found = load_dataset(name, download=False)
        return found if found.timestamps is not None else None


@dataclass(frozen=True)
class Evaluate:
    """Judge two stages on the run's test pairs, beside its model alone and beside popularity.

    Attributes:
        run_path: the run directory.
        k: cut-offs.
        json: print JSON.
    """

    run_path: RunPath
    k: Annotated[tuple[int, ...], flag("K [K ...]")] = (10,)
    json: Switch = False

    def run(self) -> int:
        found = evaluate_ranked_run(self.run_path, tuple(sorted(set(self.k))))
        if self.json:
            paired = {name: asdict(one) for name, one in found.paired.items()}
            print(json.dumps(found._asdict() | {"paired": paired}, indent=2))
            return 0
        console = results()
        console.print(f"recall@{found.total} of the candidates: {found.candidates:.4f}")
        names = [name for name in found.after if name in found.paired]
        rows = [
            (
                name,
                f"{found.popularity[name]:.4f}",
                f"{found.before[name]:.4f}",
                f"{found.after[name]:.4f}",
                interval_text(found.paired[name]),
                p_text(found.paired[name].permutation_p),
            )
            for name in names
        ]
        columns = ("popularity", "model alone", "two stages", "95 % of the difference", "p")
        console.print(table(("metric", *columns), rows, numbers=(*columns[:3], "p")))
        console.print(
            "Test, training and validation items left out; the difference and p (permutation test) "
            "are those of the model alone and two stages, paired over users."
        )
        return 0


@dataclass(frozen=True)
class Rank:
    """Train and judge a second stage, which puts a run's candidates into a better order.

    Attributes:
        command: what to do.
    """

    command: tyro.conf.OmitSubcommandPrefixes[
        Annotated[Train, tyro.conf.subcommand("train")]
        | Annotated[Evaluate, tyro.conf.subcommand("evaluate")]
    ]

    def run(self) -> int:
        return self.command.run()
