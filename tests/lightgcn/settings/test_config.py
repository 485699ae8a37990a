"""Settings in Python: values that are given to those who read them."""

import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.models import MF, GfCf, ItemCf, LightGCN, Popular, Random
from lightgcn_jax.settings import (
    PRESETS,
    ClosedFormConfig,
    Selection,
    TrainConfig,
    flat,
    for_catalogue,
    label_of,
)
from lightgcn_jax.settings.config import metric_among
from lightgcn_jax.settings.names import replaced
from lightgcn_jax.settings.registry import fields_of, names_of, owners
from lightgcn_jax.training import HardNegatives, Optimization, PerUserNegatives, SharedNegatives


def name(value):
    return getattr(value, "__name__", value)


@pytest.mark.parametrize(
    ("owner", "field"),
    [(owner, field) for owner in dict.fromkeys(owners()) for field in sorted(names_of(owner))],
    ids=name,
)
def test_every_setting_has_a_kind(owner, field):
    """What is no number, no name and no switch is refused, and so is a number in a switch's place
    and a switch in a number's."""
    default = fields_of(owner())[field]
    for value in (object(), [object()], 7 if isinstance(default, bool) else True):
        with pytest.raises(InputError, match=f"^{field}: expected "):
            owner(**{field: value})


NUMBERS = [
    (owner, field)
    for owner in (*dict.fromkeys(owners()), ClosedFormConfig)
    for field in sorted(names_of(owner))
    if isinstance(fields_of(owner())[field], (bool, int, float, tuple))
]


@pytest.mark.parametrize(("owner", "field"), NUMBERS, ids=name)
def test_numpy_and_jax_scalars_are_numbers_everywhere(owner, field):
    default = fields_of(owner())[field]
    if isinstance(default, bool):
        same = [np.bool_(default), jnp.array(default)]
    elif isinstance(default, int):
        same = [np.int64(default), np.int32(default), jnp.int32(default)]
    elif isinstance(default, float):
        same = [np.float64(default)]
        near = fields_of(owner(**{field: np.float32(default)}))[field]
        assert near == pytest.approx(default, rel=1e-6)
        assert type(near) is float
    else:
        same = [list(default), np.array(default), jnp.array(default)]
    for value in same:
        made = owner(**{field: value})
        assert made == owner()
        assert type(fields_of(made)[field]) is type(default)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: TrainConfig(model=GfCf()), "model: expected an instance of Model, got GfCf"),
        (lambda: TrainConfig(model="mf"), "model: expected an instance of Model, got 'mf'"),
        (lambda: TrainConfig(selection="recall@20"), "selection: expected a Selection, got 'rec"),
        (
            lambda: TrainConfig(selection=Selection(select_by="recall@7")),
            "select_by: expected one of recall@10, .*, got 'recall@7'",
        ),
        (lambda: TrainConfig(ks=()), r"ks: expected distinct cut-offs of at least 1, got \(\)"),
        (lambda: TrainConfig(ks=(10, 10)), r"ks: expected distinct .*, got \(10, 10\)"),
        (lambda: TrainConfig(seed=2**31), "seed: expected seeds below 2\\^31, got 2147483648"),
        (lambda: TrainConfig(seed=2**31 - 2, seeds=3), "seed: expected seeds below 2\\^31"),
        (lambda: TrainConfig(MF(), backend="csr"), "backend: expected auto beside MF"),
        (lambda: TrainConfig(MF(), ordering="none"), "ordering: expected auto beside MF"),
        (lambda: ClosedFormConfig(MF()), r"model: expected an instance of ClosedForm, got MF\("),
        (lambda: ClosedFormConfig(Popular(), seeds=2), r"seeds: expected 1 for Popular\(\), which"),
        (lambda: ClosedFormConfig(ItemCf(), backend="csr"), "backend: expected auto beside ItemCf"),
        (lambda: Optimization(epochs=9, schedule_epochs=8), "schedule_epochs: expected 0 or at le"),
        (lambda: HardNegatives(64, hard_pool=32), "negatives: expected at most hard_pool = 32"),
    ],
)
def test_values_that_do_not_fit_are_refused(make, message):
    with pytest.raises(InputError, match=message):
        make()


@pytest.mark.parametrize(
    ("ks", "metric"),
    [
        ((10, 20, 50), "recall@20"),
        ((5,), "recall@5"),
        ((15, 25), "recall@15"),
        ((21, 10), "recall@21"),
    ],
)
def test_the_epoch_is_chosen_by_recall_near_20(ks, metric):
    assert TrainConfig(ks=ks).metric == metric == metric_among("recall@20", ks)
    assert TrainConfig(ks=(5, 10), selection=Selection("ndcg@10")).metric == "ndcg@10"


def test_the_paper_preset_is_the_papers():
    paper = PRESETS["paper"]
    assert paper.model == LightGCN(dim=64, layers=3, init_std=0.1)
    optimization = paper.optimization
    assert (optimization.batch_size, optimization.epochs) == (2048, 1000)
    assert (optimization.learning_rate, optimization.l2) == (1e-3, 1e-4)
    assert optimization.sampling == "users"
    assert paper.negatives == PerUserNegatives(1)
    assert paper.protocol == "legacy"


def test_the_default_preset_is_the_defaults():
    assert PRESETS["default"] == TrainConfig()
    assert TrainConfig().negatives == SharedNegatives(256)
    assert list(PRESETS) == ["default", "paper", "fast"]


@pytest.mark.parametrize(
    ("items", "temperature", "offset"),
    [(9_999, 0.2, 0.12), (10_000, 0.15, 0.09), (24_999, 0.15, 0.09)],
)
def test_fast_is_softer_more_popular_and_longer_in_smaller_catalogues(items, temperature, offset):
    wanted = {"temperature": temperature, "popularity_offset": offset}
    wanted |= {"epochs": 24, "learning_rate": 0.02}
    config, note = for_catalogue(PRESETS["fast"], "fast", items)
    assert config == replaced(PRESETS["fast"], wanted)
    told = f"{items:,} items: temperature {temperature}, popularity_offset {offset}"
    assert note == f"Preset fast for a catalogue of {told}, epochs 24, learning_rate 0.02"


@pytest.mark.parametrize(
    ("preset", "items"), [("fast", 25_000), ("paper", 500), ("default", 500), (None, 500)]
)
def test_other_presets_and_large_catalogues_are_as_they_are(preset, items):
    config = PRESETS[preset or "fast"]
    assert for_catalogue(config, preset, items) == (config, None)


@pytest.mark.parametrize(
    ("given", "stays"),
    [
        ({"temperature": 0.12}, {"temperature"}),
        ({"loss": "bilateral-softmax"}, {"temperature"}),
        ({"score": "inner", "epochs": 3}, {"popularity_offset", "epochs"}),
    ],
)
def test_what_was_asked_for_stays_whatever_the_catalogue(given, stays):
    asked = replaced(PRESETS["fast"], given)
    config, _ = for_catalogue(asked, "fast", 500, given)
    before, after = flat(asked), flat(config)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {"temperature", "popularity_offset", "epochs", "learning_rate"} - stays


@pytest.mark.parametrize("protocol", ["strict", "legacy", "fixed"])
def test_labels_say_what_was_selected(protocol):
    assert label_of(TrainConfig(protocol=protocol)).startswith(f"{protocol}: ")
    closed = label_of(ClosedFormConfig(Random(), protocol=protocol))
    assert closed.startswith(f"{protocol}: fitted on train")
    assert "nothing selected" in closed
