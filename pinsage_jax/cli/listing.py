"""What is printed of the flags of every command of ``pinsage-jax``; see
:mod:`lightgcn_jax.cli.listing`."""

from __future__ import annotations

import dataclasses

from lightgcn_jax.cli.listing import listed, path_of, text_of
from lightgcn_jax.cli.source import FileFormat
from pinsage_jax.cli.program import PINSAGE
from pinsage_jax.cli.source import FeatureReading, ItemSource
from pinsage_jax.config import PinSageConfig

_SPLIT = {"task", "pairs", "pairs_file", "valid", "test", "fresh", "last", "split_seed"}
_LOSS = {"loss", "margin", "temperature", "hard_weight"}
_NEGATIVES = {
    *("negatives", "negative_law", "negative_choice", "distance_weighted", "in_batch"),
    *("hard_cap", "curriculum", "hard_band", "hard_pool", "hard_ranking", "hard_visits"),
}
_OPTIMISER = {
    *("batch_size", "steps_per_epoch", "epochs", "learning_rate", "warmup_epochs", "decay"),
    *("drop_contexts", "mask_targets", "folds", "refresh_every"),
}
_PROTOCOL = {"evaluate_every", "patience"}
EXAMPLES = {
    "train": (
        "train --data boards.csv --features items.parquet --out mine",
        "train --config mine/run.toml --dim 128 --out wider",
    ),
    "evaluate": ("evaluate mine", "evaluate mine --no-probe --json"),
    "plot": ("plot mine", "plot mine --out curve.svg"),
    "recommend": (
        "recommend mine --user 42 7 --k 20",
        "recommend mine --all-users --out recommendations.parquet",
    ),
    "similar": (
        "similar mine --item 1193 --by cosine",
        "similar mine --item 1193 --sheet near.png --pictures covers",
    ),
    "embed": (
        "embed mine --items new.parquet --contexts new-boards.csv",
        "embed mine --remove 1193",
    ),
    "export": ("export mine --to vectors.npz", "export mine --to vectors --partitioned"),
    "serve": ("serve mine", "serve mine --pictures covers --port 8080"),
    "verify": ("verify mine", "verify mine --json"),
    "plan": (
        "plan --items 10000000 --memberships 100000000 --accelerator v5e",
        "plan --items 100000000 --memberships 1000000000 --accelerator h200:8",
    ),
    "ablation": (
        "ablation --datasets pins --seeds 3 --out ablation",
        "ablation --claims --minutes 60 --out claims",
    ),
}
"""Two command lines of each command."""


def heading_of(command: str, name: str) -> str:
    """Below which heading a flag stands.

    Args:
        command: the command's name.
        name: the flag's, as a name of Python.
    """
    if command != "train":
        return "run" if command == "ablation" else "options"
    source = (ItemSource, FileFormat, FeatureReading)
    named = {
        "split": _SPLIT,
        "data": {"columns"}.union(*({one.name for one in dataclasses.fields(of)} for of in source)),
        "loss": _LOSS,
        "negatives": _NEGATIVES,
        "optimiser": _OPTIMISER,
        "protocol": _PROTOCOL,
        "run": {"tables", "seed"},
        "model": {"model"} | {one.name for one in dataclasses.fields(PinSageConfig)},
    }
    return next((heading for heading, names in named.items() if name in names), "run")


if __name__ == "__main__":
    path_of(PINSAGE).write_text(text_of(listed(PINSAGE, heading_of, EXAMPLES)), encoding="utf-8")
