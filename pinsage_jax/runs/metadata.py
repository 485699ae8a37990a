"""What the JSON of a run holds: a run directory is foreign input until this was checked."""

from __future__ import annotations

from typing import Any

from lightgcn_jax.fields import ANYTHING, TEXT, Kind, list_of, number, optional, record
from lightgcn_jax.runs.metadata import COUNT, FIGURES


def _two(value: Any) -> list[str]:
    user, item = list_of(TEXT).convert(value)
    return [user, item]


SETTINGS = record(
    {
        "config": ANYTHING._replace(expected="settings"),
        "data": record({}, {"columns": Kind("the names of two columns", _two)}),
    },
    {"notes": list_of(TEXT)},
)
"""config.json, its format apart; the settings are checked by their own class."""

SUMMARY = record(
    {
        "best_epoch": COUNT,
        "epochs": COUNT,
        "selected_by": TEXT,
        "ranked_items": COUNT,
        "valid": FIGURES,
        "test": FIGURES,
        "parameters": COUNT,
        "nodes_note": TEXT,
    }
)
"""summary.json."""

PROGRESS = record(
    {
        "epoch": COUNT,
        "best_epoch": COUNT,
        "best_value": optional(number()),
        "tiers": list_of(COUNT),
    },
    {"losses": list_of(number()), "mesh": TEXT},
    closed=True,
)
"""progress.json of a checkpoint."""
