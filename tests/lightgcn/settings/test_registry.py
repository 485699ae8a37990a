"""Names, what reads which setting, and how objects without a name are described."""

import dataclasses
import functools
import hashlib
import os
import subprocess
import sys

import numpy as np
import pytest

from lightgcn_jax.models import MF, GfCf, LightGCN, Popular
from lightgcn_jax.models.closed_form import ClosedForm
from lightgcn_jax.settings import MODELS, ClosedFormConfig, TrainConfig, model_name
from lightgcn_jax.settings.registry import (
    CHOICES,
    OWN,
    described,
    misplaced,
    name_of,
    own_objects,
    reads,
    with_embeddings,
)
from lightgcn_jax.training import (
    PerUserNegatives,
    SharedNegatives,
    Softmax,
    max_margin_loss,
)
from lightgcn_jax.training.samplers import FunctionSampler


def own_loss(positive, negatives, valid):
    del negatives, valid
    return -positive


def scaled(scale):
    def loss(positive, negatives, valid):
        return scale * own_loss(positive, negatives, valid)

    return loss


@dataclasses.dataclass(frozen=True)
class Heat(LightGCN):
    """A model of one's own that derives from one with a name."""

    time: float = 2.0
    powers: np.ndarray = dataclasses.field(default_factory=lambda: np.arange(3.0))


class Plain:
    """A loss that is no dataclass."""

    def __init__(self, scale):
        self.scale = scale

    def __call__(self, positive, negatives, valid):
        return self.scale * own_loss(positive, negatives, valid)


OBJECTS = {
    "function": own_loss,
    "inner function": scaled(2.0),
    "partial": functools.partial(max_margin_loss, margin=0.5),
    "dataclass": Heat(8),
    "object": Plain(3),
    "sampler": FunctionSampler(own_loss),
}
HERE = "tests.lightgcn.settings.test_registry"


DIGEST = hashlib.sha256(np.arange(3.0).tobytes()).hexdigest()
DESCRIPTIONS = {
    "function": f"{HERE}.own_loss",
    "inner function": f"{HERE}.scaled.<locals>.loss(scale=2.0)",
    "partial": "lightgcn_jax.training.losses.max_margin_loss with (margin=0.5)",
    "dataclass": (
        f"{HERE}.Heat(dim=8, layers=3, normalization='symmetric', edge_dropout=0.0, init_std=0.1, "
        f"alphas=None, learn_alphas=False, layer_combination='sum', time=2.0, "
        f"powers=float64[3] {DIGEST})"
    ),
    "object": f"{HERE}.Plain(scale=3)",
    "sampler": f"{HERE}.own_loss",
}


@pytest.mark.parametrize("name", OBJECTS)
def test_objects_are_described_by_what_they_were_made_of(name):
    """In words that are written here, and so the same in every process."""
    assert described(OBJECTS[name]) == DESCRIPTIONS[name]


def test_other_objects_have_other_descriptions():
    assert described(scaled(2.0)) != described(scaled(3.0))
    assert described(Plain(3)) != described(Plain(4))
    assert described(Heat(8)) != described(Heat(8, time=3.0))
    assert described(Heat(8)) != described(Heat(8, powers=np.arange(4.0)))
    other = functools.partial(max_margin_loss, margin=0.6)
    assert described(other) != described(OBJECTS["partial"])


@pytest.mark.slow
def test_descriptions_are_the_same_in_another_process():
    code = f"from {HERE} import OBJECTS, described\nfor one in OBJECTS.values():\n"
    code += "    print(described(one))"
    environment = os.environ | {"PYTHONHASHSEED": "7", "PYTHONPATH": os.pathsep.join(sys.path)}
    printed = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    ).stdout
    assert printed.splitlines() == [*DESCRIPTIONS.values()]


def test_names_are_those_of_exactly_these_classes():
    for choice, classes in CHOICES.items():
        for name, made in classes.items():
            if name != "popularity":
                assert name_of(choice, made()) == name
    weighted = SharedNegatives(popularity_power=0.5), PerUserNegatives(popularity_power=0.5)
    assert [name_of("negative_sampler", one) for one in weighted] == ["popularity"] * 2
    assert name_of("negative_sampler", PerUserNegatives(1)) == "uniform"
    for choice, one in (("model", Heat(8)), ("loss", own_loss), ("negative_sampler", own_loss)):
        assert name_of(choice, one) == OWN


def test_a_run_says_which_of_its_objects_are_ones_own():
    assert own_objects(TrainConfig()) == own_objects(ClosedFormConfig(Popular())) == {}
    config = TrainConfig(Heat(8), loss=own_loss, negatives=own_loss)
    assert own_objects(config) == {
        "model": described(Heat(8)),
        "loss": f"{HERE}.own_loss",
        "negatives": f"{HERE}.own_loss",
    }
    assert model_name(config) == "Heat"
    assert model_name(TrainConfig(MF(8))) == "mf"
    assert model_name(ClosedFormConfig(GfCf())) == "gfcf"


def test_which_model_reads_which_setting():
    graphless = {"mf", "itemcf", "popular", "random"}
    assert {model for model in MODELS if not reads(model, "backend")} == graphless
    closed = {name for name, made in MODELS.items() if issubclass(made, ClosedForm)}
    assert {model for model in MODELS if not reads(model, "epochs")} == closed
    assert {model for model in MODELS if not reads(model, "ordering")} == closed | {"mf"}
    assert {model for model in MODELS if not reads(model, "seeds")} == {"itemcf", "popular"}
    assert {model for model in MODELS if reads(model, "layers")} == {
        "gcn", "sgc", "ngcf", "gnn", "lightgcn",
    }  # fmt: skip
    assert [model for model in MODELS if reads(model, "neighbours")] == ["itemcf"]
    assert all(reads(model, name) for model in MODELS for name in ("model", "ks", "protocol"))


def test_a_setting_of_something_that_was_not_chosen_is_misplaced():
    assert misplaced({"loss": "softmax"}, "temperature") is None
    assert misplaced({"loss": "softmax"}, "margin").startswith("a setting of loss max-margin")
    assert misplaced({}, "margin") == ("a setting of loss max-margin, got loss bpr; leave it out")
    assert misplaced({"loss": OWN}, "temperature").endswith("got loss own; leave it out")
    assert misplaced({"model": OWN}, "dim").startswith("a setting of mf, ")
    assert misplaced({"model": OWN}, "epochs") is None
    assert name_of("loss", Softmax()) == "softmax"


def test_models_with_embeddings_are_named():
    assert with_embeddings() == "mf, gcn, sgc, ngcf, gnn, lightgcn, filter, gfcf, spectral"


@pytest.mark.parametrize("name", MODELS)
def test_a_model_by_its_name_has_its_own_defaults(name):
    config = (ClosedFormConfig if issubclass(MODELS[name], ClosedForm) else TrainConfig)(
        MODELS[name]()
    )
    assert model_name(config) == name
