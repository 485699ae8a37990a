"""Settings by name, and what of them depends on the data."""

from __future__ import annotations

from collections.abc import Collection

from lightgcn_jax.models import Cosine, LightGCN
from lightgcn_jax.settings.config import Config, Selection, TrainConfig
from lightgcn_jax.settings.names import flat, replaced
from lightgcn_jax.training import Optimization, PerUserNegatives, SharedNegatives, Softmax

PRESETS: dict[str, TrainConfig] = {
    "default": TrainConfig(),
    # He et al. 2020, section 4.1.2, with the batch size and the sampling of LightGCN-PyTorch.
    "paper": TrainConfig(
        model=LightGCN(dim=64, layers=3),
        negatives=PerUserNegatives(1),
        optimization=Optimization(
            epochs=1000, batch_size=2048, sampling="users", learning_rate=1e-3, l2=1e-4
        ),
        selection=Selection(evaluate_every=10, patience=0),
        protocol="legacy",
        ks=(20,),
        # Papers count every test pair.
        cold="keep",
    ),
    # The fewest seconds to a good ranking on a CPU: an epoch is few applications of Ã, and the
    # softmax over many shared negatives learns from each. Settled on a quarter of Gowalla's train,
    # for large sparse logs; see :func:`for_catalogue` for others.
    "fast": TrainConfig(
        model=LightGCN(dim=64, layers=3, alphas=(0.0, 0.1, 0.3, 0.6)),
        score=Cosine(popularity_offset=0.06),
        loss=Softmax(temperature=0.12),
        negatives=SharedNegatives(1024),
        optimization=Optimization(
            epochs=20, batch_size=8192, learning_rate=0.03, schedule="cosine", l2=1e-6
        ),
        selection=Selection(patience=0),
        protocol="fixed",
    ),
}

# What a preset has in catalogues of fewer items than this, settled on validation of six data sets
# (docs/which-model.md). To stand out of some thousand items takes smaller differences of cosines
# than to stand out of some ten thousand, and users share more of what they take. Their logs are
# short too: an epoch is few steps, which are made up for.
_SHORT: dict[str, float | int] = {"epochs": 24, "learning_rate": 0.02}
BY_CATALOGUE: dict[str, tuple[tuple[int, dict[str, float | int]], ...]] = {
    "fast": (
        (10_000, {"temperature": 0.2, "popularity_offset": 0.12} | _SHORT),
        (25_000, {"temperature": 0.15, "popularity_offset": 0.09} | _SHORT),
    )
}
_CHOICE_OF = {"temperature": "loss", "popularity_offset": "score"}


def for_catalogue(
    config: Config, preset: str | None, num_items: int, given: Collection[str] = ()
) -> tuple[Config, str | None]:
    """The settings of a preset for a catalogue of this size, where they depend on it.

    Args:
        config: the settings of the preset, with others over them.
        preset: its name; None for none.
        num_items: I.
        given: names of the settings that were asked for beside the preset: they stay, as does what
            belongs to a loss or a score that was asked for.

    Returns:
        The settings, and a line that says what was settled by the size; None where nothing was.

    Example:
        >>> config, note = for_catalogue(PRESETS["fast"], "fast", 500, {"temperature", "epochs"})
        >>> note
        'Preset fast for a catalogue of 500 items: popularity_offset 0.12, learning_rate 0.02'
    """
    rows = BY_CATALOGUE.get(preset or "", ())
    values = next((own for most, own in rows if num_items < most), {})
    held, asked = flat(config), {*given}
    changed = {
        name: value
        for name, value in values.items()
        if name in held and not {name, _CHOICE_OF.get(name, name)} & asked
    }
    if not changed:
        return config, None
    told = ", ".join(f"{name} {value:g}" for name, value in changed.items())
    note = f"Preset {preset} for a catalogue of {num_items:,} items: {told}"
    return replaced(config, changed), note
