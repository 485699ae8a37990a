"""What a run gives to whoever made it."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from lightgcn_jax.data.pairs import PARTS, Pairs
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.scorer import Embedded, Scorer
from lightgcn_jax.settings.config import Config
from lightgcn_jax.settings.registry import model_name, with_embeddings
from lightgcn_jax.shown import Shown, figures_line


@dataclasses.dataclass(frozen=True, repr=False)
class FitResult(Shown):
    """A trained or fitted run.

    Attributes:
        config: its settings.
        split: the pairs and id maps it was trained and evaluated on, protocol applied.
        summary: the figures, as in summary.json.
        history: a record an epoch and seed, as in metrics.jsonl.
        scorer: what ranks: the final embeddings of the best epoch, or the closed form.
        params: the parameters of a trained model at its best epoch, by which people and things that
            come later get vectors; None where they are not at hand.
        directory: where the run lies; None if it was not written.
        already_finished: the run had ended before; nothing was trained now.
        also_seen: pairs that users know beyond the split, and are not recommended.
    """

    config: Config
    split: Split
    summary: dict[str, Any]
    history: list[dict[str, Any]]
    scorer: Scorer
    params: Any = None
    directory: Path | None = None
    already_finished: bool = False
    also_seen: Pairs | None = None

    @property
    def title(self) -> str:
        """The model, and how the split was used."""
        return f"FitResult of {model_name(self.config)}, protocol {self.config.protocol}"

    def facts(self) -> dict[str, str]:
        """What it was made from, and its figures."""
        trained = f"{self.summary['epochs']} epochs, the best {self.summary['best_epoch']}"
        made = trained if self.config.is_trained else f"{self.summary['fit_seconds']:.2f} s"
        figures = (
            f"{part} {figures_line(self.summary[part])}" for part in PARTS if self.summary[part]
        )
        return {
            "made from": f"{self.split.counts()}; {made}",
            "figures": "; ".join(figures) or "none: nothing was held out",
        }

    @property
    def user_embeddings(self) -> np.ndarray:
        """``float32[U, D]``; InputError where the model has none."""
        return embeddings_of(self.scorer, model_name(self.config))[0]

    @property
    def item_embeddings(self) -> np.ndarray:
        """``float32[I, D]``; InputError where the model has none."""
        return embeddings_of(self.scorer, model_name(self.config))[1]


def embeddings_of(scorer: Scorer, model: str) -> tuple[np.ndarray, np.ndarray]:
    """A model's vectors ``float32[U, D]`` and ``float32[I, D]``, on the host.

    Args:
        scorer: what ranks.
        model: the model's name, for the message.

    Raises:
        InputError: it has none.
    """
    if not isinstance(scorer, Embedded):
        raise InputError(
            f"embeddings: expected a model that has them ({with_embeddings()}), got {model}"
        )
    users, items = scorer.embeddings()
    return np.asarray(users), np.asarray(items)
