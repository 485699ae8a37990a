"""Scores of pairs, in training and in ranking."""

import dataclasses

import jax
import jax.numpy as jnp
import jax.test_util
import numpy as np
import pytest

from lightgcn_jax.evaluation import InnerProduct, rank
from lightgcn_jax.evaluation.scorer import exact_pair_scores
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.models import MLP, Cosine, Inner, Score, heads, unit_rows
from tests.lightgcn.oracles import stable_top_k
from tests.lightgcn.programs import multiplies_exactly

DIM, HIDDEN, BATCH = 4, 6, 5
SCORES = {"inner": Inner(), "cosine": Cosine(), "mlp": MLP(HIDDEN)}
every_name = pytest.mark.parametrize("name", SCORES)


@dataclasses.dataclass(frozen=True)
class Nearness(Score):
    """A score of one's own: minus the squared distance, with a popularity offset."""

    popularity_offset: float = 0.0

    def __call__(self, head, users, items):
        del head
        items = items[None] if items.ndim == 2 else items
        return -jnp.square(users[:, None] - items).sum(axis=-1)


unit = jax.jit(unit_rows)
scores_of = jax.jit(lambda scorer, rows: scorer.scores(rows))


def table(seed, *shape):
    return np.random.default_rng(seed).normal(size=(*shape, DIM))


def random_head(seed=0):
    """Variables of which none is zero, biases included."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: MLP(HIDDEN).init(jax.random.key(0), DIM))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)


def single(name, user, item, head):
    """One score, by NumPy; the network's first layer over both vectors side by side."""
    user, item = np.asarray(user), np.asarray(item)
    if name == "inner":
        return user @ item
    if name == "cosine":
        return user @ item / np.sqrt((user @ user) * (item @ item))
    layers = jax.tree.map(np.asarray, head["params"])
    first = np.concatenate([layers["of_user"]["kernel"], layers["of_item"]["kernel"]])
    hidden = np.concatenate([user, item]) @ first + layers["of_user"]["bias"]
    output = layers["output"]
    return (np.maximum(hidden, 0) @ output["kernel"] + output["bias"])[0]


@every_name
@pytest.mark.usefixtures("x64")
def test_scores_of_positives_and_of_both_kinds_of_negatives(name):
    score = jax.jit(SCORES[name])
    head, users = random_head(), table(0, BATCH)
    positives, own = table(1, BATCH), table(2, BATCH, 3)
    found = score(head, users, positives[:, None])
    expected = [[single(name, *pair, head)] for pair in zip(users, positives, strict=True)]
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    found = score(head, users, own)
    expected = [
        [single(name, user, item, head) for item in items]
        for user, items in zip(users, own, strict=True)
    ]
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    # As many shared negatives as users must not be taken for one each.
    for count in (7, BATCH):
        shared = table(3, count)
        found = score(head, users, shared)
        expected = [[single(name, user, item, head) for item in shared] for user in users]
        np.testing.assert_allclose(found, expected, rtol=1e-11)


@every_name
@pytest.mark.usefixtures("x64")
def test_numerical_gradients(name):
    jax.test_util.check_grads(
        jax.jit(lambda users, items, head: SCORES[name](head, users, items)),
        (table(0, 3), table(1, 4), random_head()),
        order=1,
        modes=("rev",),
    )


@pytest.mark.usefixtures("x64")
def test_unit_rows_have_length_one_and_zeros_stay():
    vectors = table(0, BATCH)
    vectors[2] = 0
    found = np.asarray(unit(vectors))
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), [1, 1, 0, 1, 1], rtol=1e-14)
    np.testing.assert_allclose(found, unit(7 * vectors), rtol=1e-13)
    assert ((found * vectors).sum(axis=1) >= 0).all()
    np.testing.assert_array_equal(unit(vectors[None]), found[None])


@pytest.mark.usefixtures("x64")
def test_the_gradient_of_unit_rows_is_across_them_and_zero_at_zero():
    vectors, cotangent = table(0, BATCH), table(1, BATCH)
    vectors[2] = 0
    pull_back = jax.jit(lambda vectors, cotangent: jax.vjp(unit_rows, vectors)[1](cotangent)[0])
    found = np.asarray(pull_back(vectors, cotangent))
    assert not found[2].any()
    for row, wanted, vector in zip(found, cotangent, vectors, strict=True):
        if vector.any():
            length = np.linalg.norm(vector)
            along = np.outer(vector, vector) / length**2
            expected = (np.eye(DIM) - along) @ wanted / length
            np.testing.assert_allclose(row, expected, rtol=1e-11, atol=1e-13)


def test_cosines_with_a_vector_of_zeros_are_zero_with_a_finite_gradient():
    users, items = np.zeros((1, DIM), np.float32), np.float32([[1] * DIM, [0] * DIM])

    def total(users, items):
        return Cosine()(None, users, items).sum()

    value, gradients = jax.jit(jax.value_and_grad(total, (0, 1)))(users, items)
    assert value == 0
    assert all(np.isfinite(gradient).all() for gradient in gradients)


def test_a_new_head_has_biases_of_zero_and_two_maps_of_the_vectors():
    made = jax.jit(lambda key: MLP(HIDDEN).init(key, DIM)["params"])
    head, other = (jax.tree.map(np.asarray, made(jax.random.key(seed))) for seed in (0, 1))
    assert jax.tree.map(np.shape, head) == {
        "of_user": {"kernel": (DIM, HIDDEN), "bias": (HIDDEN,)},
        "of_item": {"kernel": (DIM, HIDDEN)},
        "output": {"kernel": (HIDDEN, 1), "bias": (1,)},
    }
    assert not head["of_user"]["bias"].any()
    assert not head["output"]["bias"].any()
    assert (head["of_item"]["kernel"] != other["of_item"]["kernel"]).all()


@pytest.mark.parametrize("at_once", [1, 2 * HIDDEN + 1, 1 << 16])
@pytest.mark.usefixtures("x64")
def test_ranking_works_through_the_items(at_once, monkeypatch):
    """All items at once, or some after others, the last of them fewer."""
    monkeypatch.setattr(heads, "_HIDDEN_AT_ONCE", at_once)
    users, items, head = table(0, 8), table(1, 11), random_head()
    scorer = MLP(HIDDEN).scorer(users, items, head)
    assert (scorer.num_queries, scorer.num_items) == (8, 11)
    rows = np.int32([6, 0, 0, 3])
    # The chunk is read while tracing: no compiled function may be shared here.
    found = jax.jit(lambda scorer, rows: scorer.scores(rows))(scorer, rows)
    expected = [[single("mlp", users[row], item, head) for row in rows] for item in items]
    np.testing.assert_allclose(found, expected, rtol=1e-11)
    pairs = exact_pair_scores(scorer, rows, np.int32([10, 0, 3, 3]))
    np.testing.assert_allclose(pairs, found[np.int32([10, 0, 3, 3]), np.arange(4)], rtol=1e-6)
    for ours, given in zip(scorer.embeddings(), (users, items), strict=True):
        np.testing.assert_array_equal(ours, given)


@pytest.mark.parametrize("offset", [0.0, 0.3])
@pytest.mark.parametrize("score", [Inner, Cosine, Nearness, MLP])
@pytest.mark.usefixtures("x64")
def test_ranking_uses_the_score_of_training(score, offset):
    """With the popularity offset too, which a score of one's own never sees."""
    if score is MLP:
        score, offset = MLP(HIDDEN), 0.0
    else:
        score = score(popularity_offset=offset)
    users, items, head = table(0, 8), table(1, 11), random_head()
    offsets = offset * np.log1p(np.arange(11.0)) if offset else None
    of_training = np.asarray(jax.jit(score)(head, users, items))
    of_training = of_training if offsets is None else of_training + offsets
    scorer = score.scorer(*score.vectors(users, items, offsets), head)
    found = scores_of(scorer, np.arange(8))
    np.testing.assert_allclose(found, of_training.T, rtol=1e-12)
    width = DIM + score.offset_columns
    assert scorer.embeddings()[0].shape == (8, width)
    assert scorer.embeddings()[1].shape == (11, width)


@pytest.mark.usefixtures("x64")
def test_cosines_ranked_by_length_are_compared_by_direction_in_training_alone():
    score, users, items = Cosine(ranked_by_length=True), table(0, 8), table(1, 11)
    unit_users, unit_items = (
        rows / np.linalg.norm(rows, axis=1, keepdims=True) for rows in (users, items)
    )
    of_training = jax.jit(score)(None, users, items)
    np.testing.assert_allclose(of_training, unit_users @ unit_items.T, rtol=1e-12)
    scorer = score.scorer(*score.vectors(users, items, None), None)
    np.testing.assert_allclose(scores_of(scorer, np.arange(8)), items @ users.T, rtol=1e-12)


@pytest.mark.parametrize("score", [Inner(0.3), Cosine(), Nearness(0.3), MLP(HIDDEN)])
def test_ranking_multiplies_at_the_highest_precision(score):
    """Accelerators would round float32 operands to fewer bits."""
    users, items, head = (
        jax.tree.map(lambda leaf: leaf.astype(jnp.float32), part)
        for part in (table(0, 8), table(1, 11), random_head())
    )
    offsets = jnp.ones(11) if score.offset_columns else None
    scorer = score.scorer(*score.vectors(users, items, offsets), head)
    assert multiplies_exactly(type(scorer).scores, scorer, jnp.arange(3))


def test_ranks_are_by_the_network_not_by_inner_products():
    users, items = (jnp.asarray(table(seed, 8), jnp.float32) for seed in (0, 1))
    head = jax.tree.map(lambda leaf: leaf.astype(jnp.float32), random_head(1))
    seen = csr_rows(np.array([0, 0, 5]), np.array([2, 3, 7]), 8)
    rows = np.arange(8, dtype=np.int32)
    left_out = {0: (2, 3), 5: (7,)}
    found = rank(MLP(HIDDEN).scorer(users, items, head), rows, k=4, seen=seen).items
    for row, ranked in zip(rows, found, strict=True):
        scores = [single("mlp", users[row], item, head) for item in items]
        assert list(ranked) == stable_top_k(scores, 4, left_out.get(row, ()))
    assert (rank(InnerProduct(users, items), rows, k=4, seen=seen).items != found).any()


def test_memory_is_what_the_scorer_says():
    """A block never holds a hidden layer for all its pairs."""
    dim, hidden, num_items, queries = 16, 32, 20_000, 64
    head = jax.eval_shape(lambda: MLP(hidden).init(jax.random.key(0), dim))
    tables = (jax.ShapeDtypeStruct((rows, dim), jnp.float32) for rows in (100, num_items))
    scorer = MLP(hidden).scorer(*tables, head)
    compiled = scores_of.lower(scorer, np.zeros(queries, np.int32)).compile()
    temporary = compiled.memory_analysis().temp_size_in_bytes
    # Beside what grows with the queries: the items, and what they add to the hidden layer.
    items = 4 * num_items * (dim + hidden)
    assert temporary <= queries * scorer.block_bytes_per_query + items
    assert temporary < 4 * num_items * queries * hidden / 4
