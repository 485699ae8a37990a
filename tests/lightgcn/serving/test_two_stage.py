"""The second stage: its losses, that nothing of the future enters it, and a run with it."""

import contextlib
import dataclasses
import shutil

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import safetensors.numpy

from lightgcn_jax import sums
from lightgcn_jax.data import Interactions, Pairs, generate_world, temporal_split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.evaluation.ranking import rank
from lightgcn_jax.models import GfCf
from lightgcn_jax.runs import RunDirectory, fit, verify
from lightgcn_jax.serving import Recommender
from lightgcn_jax.serving.two_stage import (
    Examples,
    History,
    RankedRecommender,
    RankerConfig,
    Trained,
    evaluate_ranked_run,
    judged,
    ranked_run,
    stage_one,
    train_ranker,
    train_run,
)
from lightgcn_jax.serving.two_stage.ranked_run import NAME, open_ranked
from lightgcn_jax.serving.two_stage.ranker import bpr_loss, softmax_loss
from lightgcn_jax.settings import ClosedFormConfig
from tests.mutations import harmed, refused

SIZES = {"model": 12, "recent": 6, "filter": 4, "popular": 2}
QUICK = RankerConfig(hidden=(8,), epochs=2, batch_users=16)


@pytest.fixture(scope="module")
def interactions():
    """Every user's items have a moment of their own."""
    made = generate_world(users=60, items=60, mean_degree=10, groups=3, seed=1).interactions
    times = np.random.default_rng(0).permutation(len(made)).astype(np.float64)
    return dataclasses.replace(made, timestamps=times)


@pytest.fixture(scope="module")
def split(interactions):
    return temporal_split(interactions, 0.6, 0.2, 0.2, per_user=True)


@pytest.fixture(scope="module")
def run(split, interactions, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "run"
    fit(split, ClosedFormConfig(GfCf(singular_vectors=4), ks=(10,)), out=path)
    train_run(path, QUICK, sizes=SIZES, events=interactions)
    return path


def by_hand(scores, is_positive, inside):
    """Both losses in float64, a user at a time."""
    softmax, bpr = [], []
    for own, positive, there in zip(scores, is_positive, inside, strict=True):
        shares = np.exp(own[there]) / np.exp(own[there]).sum()
        softmax.append(-np.log(shares[positive[there]]).mean() if positive.any() else 0)
        pairs = [
            np.log1p(np.exp(own[n] - own[p]))
            for p in np.flatnonzero(positive)
            for n in np.flatnonzero(there & ~positive)
        ]
        bpr.append(np.mean(pairs) if pairs else 0)
    return softmax, bpr


def test_losses_against_their_formulas():
    rng = np.random.default_rng(0)
    scores, inside = rng.normal(size=(4, 7)), np.ones((4, 7), bool)
    inside[1, 5:] = False
    is_positive = (rng.random((4, 7)) < 0.4) & inside
    is_positive[2] = False
    softmax, bpr = by_hand(scores, is_positive, inside)
    given = jnp.asarray(scores), is_positive, inside
    np.testing.assert_allclose(softmax_loss(*given), softmax, rtol=1e-5)
    # Every place drawn once: the mean over all that are no positives.
    drawn = np.tile(np.arange(7, dtype=np.int32), (4, 1))
    np.testing.assert_allclose(bpr_loss(*given, drawn), bpr, rtol=1e-5)
    gradient = jax.grad(lambda scores: softmax_loss(scores, *given[1:]).sum())(given[0])
    assert np.isfinite(gradient).all()
    assert (np.asarray(gradient)[~inside] == 0).all()


def stage_of_noise(split, seed=0):
    rng = np.random.default_rng(seed)
    users, items = len(split.users), len(split.items)
    scorer = InnerProduct(
        *(jnp.asarray(rng.normal(size=(n, 4)), jnp.float32) for n in (users, items))
    )
    times = np.arange(len(split.train), dtype=np.float64)
    return stage_one(scorer, History(split.train, users, items, times), sizes=SIZES)


@pytest.mark.slow
def test_before_the_first_step_the_order_is_the_models(split):
    stage = stage_of_noise(split)
    choosing = split.valid.users < 15
    examples = [Examples(stage, split.valid.at(part)) for part in (~choosing, choosing)]
    trained = train_ranker(*examples, dataclasses.replace(QUICK, learning_rate=1e-30))
    rows = np.arange(20)
    alone = rank(stage.sources[0].scorer, rows, 5, seen=stage.seen).items
    assert np.array_equal(trained.ranked(stage, rows, 5)[0], alone)
    found = judged(trained, examples[1])
    assert found.before.metrics == pytest.approx(found.after.metrics)


@pytest.mark.parametrize("loss", ["softmax", "bpr"])
def test_what_sources_know_is_learnt(split, loss):
    """Vectors that are noise rank by chance; items of the user's group stand in other sources."""
    stage = stage_of_noise(split)
    choosing = split.valid.users < 30
    examples = [Examples(stage, split.valid.at(part)) for part in (~choosing, choosing)]
    config = RankerConfig(hidden=(8,), epochs=10, batch_users=16, loss=loss, learning_rate=0.02)
    trained = train_ranker(*examples, config)
    found = judged(trained, Examples(dataclasses.replace(stage), split.test))
    assert found.after.metrics["ndcg@10"] > 1.5 * found.before.metrics["ndcg@10"]


def test_a_refitted_stage_is_turned_onto_the_first(split):
    """A rotation of all vectors changes no score, and is undone."""
    stage = stage_of_noise(split)
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(4, 4)))
    scorer = stage.sources[0].scorer
    turned = InnerProduct(*(jnp.asarray(np.asarray(one) @ turn) for one in scorer.embeddings()))
    history = History(split.train, len(split.users), len(split.items))
    again = stage_one(turned, history, sizes=SIZES, like=stage)
    np.testing.assert_allclose(again.users, stage.users, atol=1e-5)
    np.testing.assert_allclose(again.items, stage.items, atol=1e-5)
    other = stage_one(turned, history, sizes=SIZES)
    assert np.abs(other.items - stage.items).max() > 0.1


def test_test_pairs_change_nothing_that_is_trained(run, interactions, tmp_path):
    """The same run with other items in test makes the same bytes."""
    same, other = (shutil.copytree(run, tmp_path / name) for name in ("same", "other"))
    pairs = safetensors.numpy.load_file(other / "pairs.safetensors")
    # Everybody's test items are replaced by whatever nobody's other parts hold.
    split = RunDirectory.open(other).split
    free = np.ones((len(split.users), len(split.items)), bool)
    for part in (split.train, split.valid):
        free[part.users, part.items] = False
    users, items = np.nonzero(free)
    kept = np.random.default_rng(5).permutation(len(users))[: len(split.test)]
    changed = Pairs.from_rows(users[kept], items[kept])
    assert changed.count_shared(split.test) < len(split.test) / 2
    pairs |= {"test_users": changed.users, "test_items": changed.items}
    safetensors.numpy.save_file(pairs, other / "pairs.safetensors")
    (other / "sums.json").unlink()
    for path in (same, other):
        (path / NAME).unlink()
        (path / "sums.json").unlink(missing_ok=True)
        train_run(path, QUICK, sizes=SIZES, events=interactions)
    assert (same / NAME).read_bytes() == (other / NAME).read_bytes()
    figures = [evaluate_ranked_run(path).after for path in (same, other)]
    assert figures[0] != figures[1]


def test_the_latest_items_are_those_of_the_latest_times(split):
    users, items = len(split.users), len(split.items)
    times = np.arange(len(split.train), dtype=np.float64)
    latest = History(split.train, users, items, times).latest(3)
    for user in range(users):
        own = np.flatnonzero(split.train.users == user)
        expected = sorted(split.train.items[own[np.argsort(-times[own])[:3]]].tolist())
        found = np.asarray(latest.columns)[latest.offsets[user] : latest.offsets[user + 1]]
        assert found.tolist() == expected


def test_a_run_keeps_its_second_stage(run):
    ranked = open_ranked(run)
    assert ranked.trained.config == QUICK
    assert [one.name for one in ranked.stage.sources] == list(SIZES)
    assert verify(run).is_whole
    assert NAME in verify(run).files
    figures = evaluate_ranked_run(run, (5, 10))
    assert figures.total == sum(SIZES.values())
    assert 0 < figures.candidates <= 1
    assert figures.before["ndcg@10"] == pytest.approx(
        RunDirectory.open(run).summary()["test"]["ndcg@10"], abs=1e-6
    )
    difference = figures.after["ndcg@10"] - figures.before["ndcg@10"]
    assert figures.paired["ndcg@10"].difference == pytest.approx(difference, abs=1e-6)


def test_recommendations_are_the_best_candidates_and_nothing_that_is_known(run, split):
    two, one = RankedRecommender.from_run(run), Recommender.from_run(run)
    users = [str(user) for user in split.users.ids[:8]]
    answers = two.recommend(users, k=6)
    rows = two.users.rows(users)
    items, scores = two.ranked.trained.ranked(two.ranked.stage, rows, 6)
    for answer, own, values, user in zip(answers, items, scores, rows, strict=True):
        assert answer.ids == two.items.external(own)
        np.testing.assert_allclose(answer.scores, values, rtol=1e-6)
        known = np.asarray(one.seen.columns)[one.seen.offsets[user] : one.seen.offsets[user + 1]]
        assert not np.isin(own, known).any()
    assert two.recommend(users[0], k=6).ids == answers[0].ids
    with pytest.raises(InputError, match="no filters"):
        two.recommend(users[0], exclude=[two.items.ids[0]])


class Killed(BaseException):
    """Stands for the end of the process."""


@pytest.mark.parametrize("files", [0, 1])
def test_a_kill_leaves_the_old_second_stage_or_the_new_one(
    run, interactions, tmp_path, monkeypatch, files
):
    path = shutil.copytree(run, tmp_path / "run")
    new = dataclasses.replace(QUICK, loss="bpr")
    old_params = open_ranked(path).trained.params
    trained = Trained(new, jax.tree.map(np.negative, old_params), 1, [{"epoch": 0, "ndcg@10": 0.5}])
    monkeypatch.setattr(ranked_run, "train_ranker", lambda *_: trained)
    put, allowed = sums._put, iter([True] * files)

    def put_or_die(*arguments):
        if not next(allowed, False):
            raise Killed
        put(*arguments)

    with monkeypatch.context() as patch, contextlib.suppress(Killed):
        patch.setattr(sums, "_put", put_or_die)
        train_run(path, new, sizes=SIZES, events=interactions)
    found = open_ranked(path).trained
    is_new = found.config == new
    assert is_new == bool(files)
    expected = trained.params if is_new else old_params
    jax.tree.map(np.testing.assert_array_equal, found.params, expected)


def test_what_is_missing_or_damaged_is_said(split, interactions, tmp_path):
    path = tmp_path / "plain"
    fit(split, ClosedFormConfig(GfCf(singular_vectors=4), ks=(10,)), out=path)
    with pytest.raises(InputError, match="rank train"):
        open_ranked(path)
    timeless = dataclasses.replace(interactions, timestamps=None)
    with pytest.raises(InputError, match="expected times"):
        train_run(path, QUICK, events=timeless)
    few = interactions.taken(np.arange(10))
    with pytest.raises(InputError, match="are not among them"):
        train_run(path, QUICK, events=few)
    train_run(path, QUICK, sizes={"model": 10})
    stored = (path / NAME).read_bytes()
    for wrong, message in (
        (("best_epoch", "best_epocs"), "best_epoch: expected"),
        (("hidden", "hiddem"), "config: expected"),
        (('"format\\": 2', '"format\\": 1'), "expected format 2"),
        (("{", "["), "a second stage, got a file that is damaged"),
    ):
        (path / NAME).write_bytes(stored.replace(*(one.encode() for one in wrong), 1))
        if (path / "sums.json").exists():
            with pytest.raises(InputError, match=rf"{NAME}.*sums.json"):
                open_ranked(path)
            (path / "sums.json").unlink()
        with pytest.raises(InputError, match=rf"{NAME}: .*{message}"):
            open_ranked(path)
    tensors = safetensors.numpy.load(stored)
    (path / NAME).write_bytes(safetensors.numpy.save(tensors))
    with pytest.raises(InputError, match=rf"{NAME}: expected"):
        open_ranked(path)
    (path / NAME).write_bytes(stored)
    with pytest.raises(InputError, match="expected model and any of"):
        train_run(path, QUICK, sizes={"popular": 3})


def check_harmed(run, path, seeds):
    """Alter the second stage: it is refused by name, or it is one of numbers."""
    shutil.copytree(run, path)
    (path / "sums.json").unlink()
    content, refusals = (path / NAME).read_bytes(), 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        (path / NAME).write_bytes(harmed(NAME, content, rng))
        found = []
        message = refused(lambda found=found: found.append(open_ranked(path)))
        assert message is None or str(path) in message, (seed, message)
        for ranked in found:
            assert ranked.trained.history is not None
            leaves = jax.tree.leaves((ranked.trained.params, ranked.stage.of_users))
            assert all(np.isfinite(leaf).all() for leaf in leaves), seed
        refusals += message is not None
    assert refusals


@pytest.mark.parametrize("seeds", [range(10), pytest.param(range(10, 310), marks=pytest.mark.slow)])
def test_a_foreign_second_stage_is_refused_by_name_or_read(run, tmp_path, seeds):
    check_harmed(run, tmp_path / "run", seeds)


def test_events_give_each_pair_its_latest_time(split, interactions):
    from lightgcn_jax.serving.two_stage.ranked_run import times_of

    doubled = Interactions(
        interactions.users,
        interactions.items,
        np.concatenate([interactions.user_rows] * 2),
        np.concatenate([interactions.item_rows] * 2),
        timestamps=np.concatenate([interactions.timestamps, interactions.timestamps - 1]),
    )
    wanted = {
        (user, item): when
        for user, item, when in zip(
            interactions.user_rows, interactions.item_rows, interactions.timestamps, strict=True
        )
    }
    found = times_of(split, doubled)
    pairs = zip(split.train.users, split.train.items, strict=True)
    assert found.tolist() == [wanted[pair] for pair in pairs]
