"""Runs that were made with objects of one's own are never opened as something else."""

import dataclasses
import functools
import json
import shutil
import subprocess
import sys

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.models import (
    MF,
    ClosedForm,
    Inner,
    Model,
    Score,
    TableParams,
)
from lightgcn_jax.runs import (
    RunDirectory,
    SilentReporter,
    compare_runs,
    continue_from,
    evaluate_run,
    fit,
    refit,
    resume,
    trainer,
)
from lightgcn_jax.serving import Recommender, export
from lightgcn_jax.settings import ClosedFormConfig
from lightgcn_jax.settings.names import replaced
from lightgcn_jax.settings.registry import described
from lightgcn_jax.training import Negatives, NegativeSampler, SharedNegatives, Softmax


@dataclasses.dataclass(frozen=True)
class Own(Model):
    """Learnt vectors, scaled; a table without a graph, so that little is compiled."""

    dim: int = 8
    scale: float = 1.0

    normalization = None

    def init(self, key, num_nodes):
        return TableParams(0.1 * jax.random.normal(key, (num_nodes, self.dim)))

    def apply(self, params, operator):
        del operator
        return self.scale * params.table


@dataclasses.dataclass(frozen=True)
class WithoutTable(Own):
    def init(self, key, num_nodes):
        return {"vectors": super().init(key, num_nodes).table}

    def apply(self, params, operator):
        del operator
        return params["vectors"]


@dataclasses.dataclass(frozen=True)
class Distance(Score):
    """−‖w ∘ (u − i)‖² with a learnt w."""

    popularity_offset: float = 0.0

    def init(self, key, width):
        del key
        return jnp.ones(width)

    def __call__(self, head, users, items):
        items = items if items.ndim == 3 else items[None]
        return -jnp.square(head[None, None] * (users[:, None] - items)).sum(-1)


def hinge(positive, negatives, valid):
    return jnp.where(valid, jnp.maximum(0, 1 + negatives - positive), 0).mean()


def other_hinge(positive, negatives, valid):
    return hinge(positive, negatives, valid)


def made_hinge(margin):
    def with_margin(positive, negatives, valid):
        return jnp.where(valid, jnp.maximum(0, margin + negatives - positive), 0).mean()

    return with_margin


@dataclasses.dataclass(frozen=True)
class FirstItems(NegativeSampler):
    count: int = 8

    def __call__(self, key, prepared, users, positives, weights):
        del key, prepared, users, weights
        items = jnp.arange(self.count, dtype=jnp.int32)
        return Negatives(items, items[None] != positives[:, None])

    def num_items(self, batch_size, num_items):
        del batch_size, num_items
        return self.count


@dataclasses.dataclass(frozen=True)
class Noise(ClosedForm):
    """Vectors drawn from the seed; only the items' are kept."""

    dim: int = 4
    tensors = ("items",)
    has_embeddings = True
    uses_key = True

    def fit(self, graph, key, backend="auto"):
        del backend
        items = jax.random.normal(key, (graph.num_items, self.dim))
        return self.rebuilt({"items": items}, graph, key)

    def rebuilt(self, tensors, graph, key, backend="auto"):
        del backend
        users = jax.random.normal(jax.random.fold_in(key, 1), (graph.num_users, self.dim))
        return InnerProduct(users, tensors["items"])


OBJECTS = {
    "model": Own(scale=2.0),
    "score": Distance(popularity_offset=0.1),
    "loss": hinge,
    "negatives": FirstItems(),
}


class Copies(SilentReporter):
    def __init__(self, path):
        self.path, self.calls = path, 0

    def advanced(self, **_):
        self.calls += 1
        shutil.copytree(self.path, self.path.with_name(f"killed-{self.calls}"))


@pytest.fixture(scope="module")
def config(small_config):
    optimization = dataclasses.replace(small_config.optimization, epochs=4)
    return dataclasses.replace(small_config, model=MF(dim=8), optimization=optimization)


@pytest.fixture(scope="module")
def whole(small_split, config, tmp_path_factory):
    """A run all of whose parts are one's own, and copies of what a kill would have left."""
    path = tmp_path_factory.mktemp("own") / "run"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(trainer, "plot_curves", lambda *_: [])
        fit(small_split, config, **OBJECTS, out=path, reporter=Copies(path))
    return path


@pytest.fixture
def killed(whole, tmp_path):
    return shutil.copytree(whole.with_name("killed-3"), tmp_path / "killed")


def test_given_the_same_objects_again_a_run_ends_as_one_that_was_not_broken_off(whole, killed):
    result = resume(killed, **OBJECTS)
    assert (killed / "metrics.jsonl").read_bytes() == (whole / "metrics.jsonl").read_bytes()
    for one, other in zip(
        RunDirectory(killed).embeddings(), RunDirectory(whole).embeddings(), strict=True
    ):
        assert one.tobytes() == other.tobytes()
    assert (killed / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    assert result.config.strategies.model == Own(scale=2.0)
    loss = [record["loss"] for record in result.history]
    assert loss[-1] < loss[0]


@pytest.mark.parametrize("field", OBJECTS)
def test_without_one_of_the_objects_it_does_not_go_on(field, killed):
    before = {file: file.read_bytes() for file in killed.rglob("*") if file.is_file()}
    rest = {name: value for name, value in OBJECTS.items() if name != field}
    message = rf"^{field}: the run was made with one of your own, .*test_own_objects\.\w+.*; give "
    with pytest.raises(InputError, match=message):
        resume(killed, **rest)
    assert {file: file.read_bytes() for file in killed.rglob("*") if file.is_file()} == before


@pytest.mark.parametrize(
    ("field", "other"),
    [
        ("model", Own(scale=2.5)),
        ("model", MF(dim=8)),
        ("score", Distance()),
        ("loss", other_hinge),
        ("negatives", FirstItems(count=9)),
    ],
)
def test_another_object_is_refused(field, other, whole, killed):
    for path in (killed, whole):
        with pytest.raises(InputError) as refused:
            resume(path, **OBJECTS | {field: other})
        assert str(refused.value) == (
            f"{field}: expected {described(OBJECTS[field])}, with which {path} was started, got "
            f"{described(other)}"
        )


@pytest.fixture(scope="module")
def model_alone(small_split, config, tmp_path_factory):
    """A run of a model of one's own and nothing else that is one's own."""
    path = tmp_path_factory.mktemp("model") / "run"
    settings = replaced(config, {"epochs": 2, "l2": 0.0})
    return fit(small_split, settings, model=WithoutTable(), out=path)


def test_an_object_where_the_run_has_a_named_one_is_refused(model_alone):
    path = model_alone.directory
    for field in ("score", "loss", "negatives"):
        with pytest.raises(InputError, match=f"{field}: expected none, as the run .* names its"):
            resume(path, model=WithoutTable(), **{field: OBJECTS[field]})
    with pytest.raises(
        InputError, match=r"model: expected .*\.WithoutTable\(dim=8.* got .*\.MF\(dim=8"
    ):
        resume(path, model=MF(dim=8))


def test_what_needs_more_than_the_directory_is_refused(whole, small_split):
    for refused in (lambda: refit(whole), lambda: continue_from(whole, small_split)):
        with pytest.raises(InputError) as error:
            refused()
        assert "only where it names all that it was made of" in str(error.value)
        assert described(OBJECTS["model"]) in str(error.value)


def test_a_finished_run_says_what_it_was_made_of(whole):
    run = RunDirectory.open(whole)
    assert run.own_objects == {field: described(value) for field, value in OBJECTS.items()}
    written = json.loads((whole / "config.json").read_text())
    assert written["own"] == run.own_objects
    choices = ("model", "score", "loss", "negative_sampler")
    assert [written["config"][name] for name in choices] == ["own"] * 4
    assert run.config.model.description.endswith(".Own(dim=8, scale=2.0)")
    assert run.summary()["model"] == "Own"
    assert run.offset_columns == 1


def test_a_finished_run_ranks_with_its_score_alone(whole, small_split, tmp_path):
    score = OBJECTS["score"]
    summary = RunDirectory(whole).summary()
    message = r"score: the run was made with one of your own, .*Distance\(popularity_offset=0\.1\)"
    for used in (Recommender.from_run, lambda path: evaluate_run(path, (10,)), resume):
        with pytest.raises(InputError, match=message):
            used(whole)
    assert evaluate_run(whole, (10,), score=score)["test"] == pytest.approx(
        {name: value for name, value in summary["test"].items() if name.endswith("@10")}
    )
    finished = resume(whole, score=score)
    assert finished.already_finished
    served = Recommender.from_run(whole, score=score)
    users, items = RunDirectory(whole).embeddings()
    weights = np.asarray(served.scorer.head, np.float64)
    place = small_split.users.row("user-5")
    difference = users[place, :-1] - items[:, :-1].astype(np.float64)
    expected = -np.square(weights * difference).sum(1) + items[:, -1]
    ranked = served.recommend("user-5", 80, exclude_seen=False)
    np.testing.assert_allclose(
        ranked.scores, expected[small_split.items.rows(ranked.ids)], rtol=1e-4, atol=1e-5
    )
    assert (np.diff(ranked.scores) <= 0).all()
    assert (
        Recommender.from_fit(finished).recommend("user-5", 5).ids
        == served.recommend("user-5", 5).ids
    )
    assert len(served.similar_items("item-3", 5).ids) == 5
    with pytest.raises(InputError, match=r"export: expected .* got the score Distance\("):
        export(served, tmp_path / "vectors.npz")


def test_runs_with_objects_of_ones_own_are_compared(whole, model_alone):
    paths = [whole, model_alone.directory]
    comparison = compare_runs(paths, 10, own=[OBJECTS["score"], hinge])
    assert [run.model for run in comparison.runs] == ["Own", "WithoutTable"]
    for run, path in zip(comparison.runs, paths, strict=True):
        summary = RunDirectory(path).summary()
        assert run.metrics["recall@10"] == pytest.approx(summary["test"]["recall@10"])
    with pytest.raises(InputError, match="score: the run was made with one of your own"):
        compare_runs(paths, 10)


def test_a_model_alone_is_not_needed_to_serve(model_alone, tmp_path):
    """Vectors and a named score are all that ranks."""
    served = Recommender.from_run(model_alone.directory)
    found = served.recommend("user-5", 5).ids
    assert found == Recommender.from_fit(model_alone).recommend("user-5", 5).ids
    with np.load(export(model_alone.directory, tmp_path / "vectors.npz")) as stored:
        np.testing.assert_array_equal(stored["items"], model_alone.item_embeddings)
    with pytest.raises(InputError, match=r"model: expected .*scale=1\.0.*, got .*scale=3\.0"):
        Recommender.from_run(model_alone.directory, model=WithoutTable(scale=3.0))


def test_a_closed_form_of_ones_own(small_split, tmp_path):
    path, model = tmp_path / "run", Noise(dim=3)
    result = fit(small_split, ClosedFormConfig(ks=(10,), seeds=2), model=model, out=path)
    assert set(RunDirectory.open(path).model(("items",))) == {"items"}
    for used in (Recommender.from_run, lambda path: evaluate_run(path, (10,)), resume):
        with pytest.raises(InputError, match="model: the run was made with one of your own"):
            used(path)
    served = Recommender.from_run(path, model=Noise(dim=3))
    np.testing.assert_array_equal(served.item_embeddings, result.item_embeddings)
    kept = result.summary["seeds"][0]["test"]
    assert evaluate_run(path, (10,), model=model)["test"] == pytest.approx(kept)
    comparison = compare_runs([path, path], 10, own=[model])
    assert comparison.runs[0].metrics["recall@10"] == pytest.approx(kept["recall@10"])
    (path / "summary.json").unlink()
    with pytest.raises(InputError, match=r"model: expected .*dim=3.* got .*dim=4"):
        resume(path, model=Noise())
    again = resume(path, model=model)
    np.testing.assert_array_equal(again.user_embeddings, result.user_embeddings)
    assert again.summary["test"] == result.summary["test"]


def test_penalties_need_a_table(small_split, config, tmp_path, monkeypatch):
    """Known before anything is compiled or written."""
    monkeypatch.setattr(trainer.Trainer, "initial_states", lambda _: pytest.fail("too late"))
    with pytest.raises(InputError, match=r"l2: expected 0 for .*WithoutTable\(dim=8.*got 0\.0001"):
        fit(small_split, config, model=WithoutTable(), out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_without_a_penalty_parameters_need_no_table(model_alone):
    assert model_alone.history[-1]["loss"] < model_alone.history[0]["loss"]
    assert model_alone.summary["embedding_parameters"] == 0
    assert model_alone.summary["parameters"] == 200 * 8


class Doubled(Inner):
    """Ranks by inner products, which are not its scores."""

    def __call__(self, head, users, items):
        return 2 * super().__call__(head, users, items)


class SharedOnly(Score):
    """Cannot tell a set of items for each row."""

    def __call__(self, head, users, items):
        del head
        items = items if items.ndim == 2 else items[0]
        return users @ items.T


@dataclasses.dataclass(frozen=True)
class Wide(Own):
    def apply(self, params, operator):
        vectors = super().apply(params, operator)
        return jnp.concatenate([vectors, vectors], axis=1)


@dataclasses.dataclass(frozen=True)
class UsersOnly(Own):
    def init(self, key, num_nodes):
        return super().init(key, num_nodes - 80)


def of_each_negative(positive, negatives, valid):
    """Forgets to add up."""
    return jnp.where(valid, jax.nn.softplus(negatives - positive), 0.0)


def how_many_above(positive, negatives, valid):
    """Has no derivative."""
    return jnp.sum(valid & (negatives > positive))


def of_two_arguments(positive, negatives):
    return jax.nn.softplus(negatives - positive).mean()


def without_mask(key, graph, *_):
    return jax.random.randint(key, (8,), 0, graph.num_items)


def of_real_numbers(key, _graph, users, *_):
    return Negatives(jax.random.uniform(key, (8,)), jnp.ones((len(users), 8), bool))


def of_a_key(key):
    return key


def by_numpy(positive, negatives, valid):
    return np.asarray(negatives - positive)[np.asarray(valid)].mean()


@pytest.mark.parametrize(
    ("objects", "message"),
    [
        ({"score": Doubled()}, "the same scores for shared items and in ranking"),
        ({"score": SharedOnly()}, "the same scores for shared items and for items of each row"),
        ({"model": Wide()}, r"expected apply to give float\[200, 8\].* got float32\[200, 16\]"),
        ({"model": UsersOnly()}, r"a row for each of 200 nodes, got float32\[120, 8\]"),
        ({"loss": lambda *_: 0.0}, "loss: expected a function with a name .* got a lambda"),
        ({"loss": Softmax}, r"loss: expected Softmax\(…\), got the class itself"),
        ({"loss": of_each_negative}, r"one floating number for a positive .*, got float32\[64\]"),
        ({"loss": how_many_above}, r"one floating number for a positive .*, got int32\[\]"),
        ({"negatives": without_mask}, r"negatives: expected .*without_mask to make of key, .* got"),
        ({"negatives": of_real_numbers}, r"valid bool\[B, M\] .*, got float32\[8\], bool\["),
        ({"negatives": of_a_key}, "got an error: of_a_key.. takes 1 positional argument"),
        ({"optimizer": optax.adam}, r"optimizer: expected an optax transformation, optax.sgd\(0"),
        ({"optimizer": "sgd"}, "optimizer: expected an optax transformation, .* got 'sgd'"),
        ({"loss": of_two_arguments}, "it fails: of_two_arguments.. takes 2 positional arguments"),
        ({"loss": by_numpy}, "to compute with jax.numpy from positive .*; it fails: The numpy"),
    ],
)
def test_what_would_train_or_rank_wrongly_is_refused(
    objects, message, small_split, config, tmp_path
):
    with pytest.raises(InputError, match=message):
        fit(small_split, config, **objects, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


@dataclasses.dataclass(frozen=True)
class OwnRows(Own):
    reads_own_rows = True

    def apply_rows(self, params, operator, rows, key=None):
        del operator, key
        return self.scale * params.table[rows]


def test_lazy_adam_trains_a_model_of_own_rows_and_takes_no_other_optimizer(
    small_split, config, tmp_path
):
    lazy = replaced(config, {"lazy_adam": True})
    with pytest.raises(InputError, match="optimizer: expected none beside lazy_adam, which"):
        fit(small_split, lazy, optimizer=optax.sgd(0.1))
    made = fit(small_split, lazy, model=OwnRows(), out=tmp_path / "run")
    losses = [record["loss"] for record in made.history]
    assert losses[-1] < losses[0]
    assert RunDirectory.open(tmp_path / "run").config.optimization.lazy_adam


class Plain:
    """An object without fields or a repr of its own."""

    def __init__(self, margin):
        self.margin = margin

    def method(self, positive, negatives, valid):
        return hinge(positive, negatives, valid) * self.margin


@dataclasses.dataclass(frozen=True)
class Holder:
    description: str
    inner: object = hinge


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (hinge, other_hinge),
        (Own(scale=2.0), Own(scale=3.0)),
        (made_hinge(0.1), made_hinge(0.2)),
        (jax.jit(made_hinge(0.1)), jax.jit(made_hinge(0.2))),
        (functools.partial(hinge, valid=1), functools.partial(hinge, valid=2)),
        (functools.partial(hinge, 1), functools.partial(other_hinge, 1)),
        (Plain(0.1), Plain(0.2)),
        (Plain(0.1).method, Plain(0.2).method),
        (Plain(np.zeros(2000)), Plain(np.arange(2000) // 1000 * 0.0 + (np.arange(2000) == 999))),
        (Holder("same", hinge), Holder("same", other_hinge)),
        (Holder("one"), Holder("other")),
        (Plain({"a": made_hinge(1)}), Plain({"a": made_hinge(2)})),
        (Plain([Own(1)]), Plain([Own(2)])),
        (SharedNegatives(8), FirstItems(8)),
    ],
)
def test_objects_that_differ_are_told_apart(one, other):
    assert described(one) != described(other)
    assert " at 0x" not in described(one) + described(other)


def test_objects_that_hold_each_other_are_described_all_the_same():
    def one(positive, negatives, valid):
        return other(positive, negatives, valid)

    def other(positive, negatives, valid):
        return one(positive, negatives, valid)

    place = "tests.lightgcn.runs.test_own_objects.test_objects_that_hold_each_other_are_described_"
    inner = f"{place}all_the_same.<locals>."
    assert described(one) == f"{inner}one(other={inner}other(one=itself))"


def test_equal_objects_are_described_alike():
    assert described(Plain(np.arange(3))) == described(Plain(np.arange(3)))
    assert described(made_hinge(0.1)) == described(made_hinge(0.1))
    assert described(Own(scale=2.0)) == (
        "tests.lightgcn.runs.test_own_objects.Own(dim=8, scale=2.0)"
    )


@pytest.mark.slow
def test_descriptions_are_the_same_in_every_process():
    objects = "[Plain(made_hinge(0.1)), Holder('a'), Noise(), hinge]"
    program = (
        "from tests.lightgcn.runs.test_own_objects import *\n"
        f"print([described(one) for one in {objects}])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{[described(one) for one in eval(objects)]}\n"
