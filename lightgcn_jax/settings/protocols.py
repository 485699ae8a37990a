"""What figures under a protocol mean, and what it selects on."""

from __future__ import annotations

from lightgcn_jax.settings.config import Config

_TRAINED_LABELS = {
    "strict": "strict: epoch selected on validation, test ranked once",
    "legacy": "legacy: epoch selected on TEST, for comparison with papers only",
    "fixed": "fixed: trained on train and validation, epochs settled before, test ranked once",
    "all": "all: trained on train, validation and test, epochs settled before; no test figures",
}
_CLOSED_FORM_LABELS = {
    "strict": "strict: fitted on train, nothing selected, test ranked once",
    "legacy": "legacy: fitted on train and validation, nothing selected, test ranked once",
    "fixed": "fixed: fitted on train and validation, nothing selected, test ranked once",
    "all": "all: fitted on train, validation and test; no test figures",
}
SELECTION_PART = {"strict": "valid", "legacy": "test", "fixed": None, "all": None}
"""The part on which the epoch is selected; None where it is the last one."""


def label_of(config: Config) -> str:
    """What figures under a run's protocol mean, for every output that shows them.

    Args:
        config: the run's settings.
    """
    labels = _TRAINED_LABELS if config.is_trained else _CLOSED_FORM_LABELS
    return labels[config.protocol]
