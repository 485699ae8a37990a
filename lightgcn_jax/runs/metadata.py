"""What the JSON of a run holds: a run directory is foreign input until this was checked.

Settings are checked by their own classes (:func:`lightgcn_jax.settings.from_flat`); everything
beside them by the kinds here, with the way to the field in the message.
"""

from __future__ import annotations

from lightgcn_jax.data import PARTS
from lightgcn_jax.data.changes import CHANGE
from lightgcn_jax.data.protocol import Protocol
from lightgcn_jax.evaluation.cold import Cold, ColdCounts
from lightgcn_jax.fields import (
    ANYTHING,
    TEXT,
    at_least,
    list_of,
    number,
    one_of,
    optional,
    record,
    table_of,
    whole,
)

COUNT = whole(0, None)
"""How many there are of something."""

FIGURES = table_of(number())
"""Metrics by name."""


_SPLIT = record(
    {
        "description": TEXT,
        "notes": list_of(TEXT),
        "report": list_of(CHANGE),
    }
)
SETTINGS = record(
    {
        "config": ANYTHING._replace(expected="settings by name"),
        "own": table_of(TEXT)._replace(expected="descriptions by field"),
        "offset_columns": COUNT,
        "optimizer": one_of(("adam", "custom", "none")),
        "data": ANYTHING,
        "split": _SPLIT,
    }
)
"""config.json, its format and versions apart."""

_PARTS = dict.fromkeys(PARTS, FIGURES)
_COLD = record(
    {"policy": one_of(Cold)},
    dict.fromkeys(PARTS, record(dict.fromkeys(ColdCounts._fields, COUNT), closed=True)),
    closed=True,
)
_SPREAD = table_of(record({"mean": number()}, {"ci95_half_width": number()}))
_SUMMARY = {
    "model": TEXT,
    "protocol": one_of(Protocol),
    "protocol_note": TEXT,
    "best_epoch": COUNT,
    "epochs": COUNT,
    "parameters": COUNT,
    **_PARTS,
}
_ALSO = {
    "statistics": table_of(_SPREAD),
    "seeds": list_of(ANYTHING),
    "embeddings_of_seed": COUNT,
    "cold": _COLD,
}
TRAINED_SUMMARY = record(_SUMMARY | {"embedding_parameters": COUNT}, _ALSO)
"""summary.json of a trained model."""

CLOSED_FORM_SUMMARY = record(_SUMMARY | {"fit_seconds": at_least(0)}, _ALSO)
"""summary.json of a model that was fitted in one go."""

EPOCH = record({"epoch": COUNT}, {"loss": number(), "seed": COUNT, **_PARTS})
"""A line of metrics.jsonl."""

PROGRESS = record(
    {
        "epoch": COUNT,
        "call": COUNT,
        "loss_sums": list_of(number()),
        "best_epochs": list_of(COUNT),
        "best_values": list_of(number()),
        "misses": list_of(COUNT),
        "history": list_of(EPOCH),
        "train_seconds": at_least(0),
        "compile_seconds": at_least(0),
        "evaluate_seconds": at_least(0),
    },
    closed=True,
)
"""progress.json of a checkpoint."""

TRIAL = record(
    {"group": COUNT},
    {
        "seeds": list_of(
            record({"best_epoch": COUNT, "valid": FIGURES}, {"seed": COUNT, **_PARTS})
        ),
        "seconds": at_least(0),
        "diverged": optional(TEXT),
        "protocol_note": TEXT,
    },
)
"""The user attributes of a trial of a sweep."""
