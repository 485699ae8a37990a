"""Arguments of estimators by name, read, set and copied as scikit-learn's ``clone`` does it."""

import copy

import optax
import pytest

from lightgcn_jax import models
from lightgcn_jax.errors import InputError
from lightgcn_jax.estimators import MF, Estimator, Filter, LightGCN, Popular
from lightgcn_jax.runs import RunDirectory
from lightgcn_jax.settings import flat
from lightgcn_jax.training import Softmax
from pinsage_jax import PinSage

SGD = optax.sgd(0.1)


def clone(estimator):
    """What ``sklearn.base.clone`` does, its check at the end included."""
    given = {k: copy.deepcopy(v) for k, v in estimator.get_params(deep=False).items()}
    made = type(estimator)(**given)
    kept = made.get_params(deep=False)
    assert given.keys() == kept.keys()
    assert all(given[name] is kept[name] for name in given)
    return made


@pytest.mark.parametrize(
    "estimator",
    [
        LightGCN(),
        LightGCN(preset="fast", alphas=None, epochs=3, verbose=False),
        MF(dim=8, loss=Softmax(temperature=0.3), negatives=7, optimizer=SGD),
        Filter(low_pass_rank=4),
        Popular(ks=(1,)),
        Estimator(models.SGC(dim=4), layers=2),
        PinSage(preset="paper", dim=8, verbose=False),
    ],
    ids=lambda one: one.title,
)
def test_a_clone_has_the_same_settings(estimator):
    made = clone(estimator)
    assert made.config == estimator.config
    assert made.verbose == estimator.verbose
    assert repr(made) == repr(estimator)


def test_arguments_are_read_and_set_by_name():
    model = LightGCN(dim=8, negatives=16)
    unset = {"preset": None, "loss": None, "score": None, "optimizer": None}
    assert model.get_params() == unset | {"verbose": True, "dim": 8, "negatives": 16}
    assert model.set_params(dim=4, preset="fast") is model
    settings = flat(model.config)
    assert [settings[name] for name in ("dim", "negatives", "epochs")] == [4, 16, 20]
    with pytest.raises(InputError, match=r"dims: LightGCN has no such setting; did you mean dim="):
        model.set_params(dims=2)
    with pytest.raises(InputError, match="model: LightGCN has no such setting"):
        model.set_params(model=models.MF())
    assert model.get_params()["dim"] == 4
    other = Estimator(models.MF(dim=4)).set_params(model=models.SGC(dim=2))
    assert other.as_model() == models.SGC(dim=2)
    pins = PinSage(dim=8).set_params(epochs=2)
    assert (pins.config.dim, pins.config.epochs) == (8, 2)


def test_what_was_fitted_stays_and_is_saved_as_it_was_made(tmp_path):
    users, items = ["a", "a", "b", "b"], ["x", "y", "x", "z"]
    model = Popular(verbose=False, ks=(1,)).fit(users, items)
    model.set_params(ks=(2,))
    assert model.recommend("a", k=1).ids == ["z"]
    saved = model.save(tmp_path / "run")
    loaded = Popular.load(saved)
    assert loaded.get_params()["ks"] == (1,)
    assert clone(loaded).config == loaded.config
    few = {"dim": 2, "layers": 1, "epochs": 1, "batch_size": 4, "negatives": 2, "ks": (1,)}
    own = LightGCN(**few, optimizer=SGD, protocol="fixed", verbose=False).fit(users, items)
    own.set_params(optimizer=None)
    assert RunDirectory.open(own.save(tmp_path / "own")).optimizer == "custom"
