"""Vectors of newcomers against dense float64 recomputations of the whole graph."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lightgcn_jax.data import IdMap, Pairs, Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct
from lightgcn_jax.graph import csr_rows
from lightgcn_jax.models import MF, MLP, SGC, Cosine, Inner, LightGCN
from lightgcn_jax.models.lightgcn import LightGCNParams
from lightgcn_jax.runs import RunDirectory, fit
from lightgcn_jax.serving import Recommender, fold_in
from lightgcn_jax.serving.fold_in import Learnt, fold_in_of
from lightgcn_jax.settings import from_flat
from tests.lightgcn.oracles import dense_adjacency, dense_multiscale
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, random_pairs

# An operator's weights are float32.
CLOSE = {"rtol": 1e-6, "atol": 1e-6}
DIM, NODES = 4, NUM_USERS + NUM_ITEMS
PAIRS = random_pairs(0, density=0.4)
LISTS = [np.array([0, 3, 4]), np.array([5]), np.array([1, 2, 6])]
POWERS = {"symmetric": (-0.5, -0.5), "row": (-1, 0), "column": (0, -1), "none": (0, 0)}
TABLE = np.random.default_rng(0).normal(size=(NODES, DIM))


def split_of(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS):
    ids = IdMap.from_values(range(num_users)), IdMap.from_values(range(num_items))
    none = Pairs.from_rows(np.array([], int), np.array([], int))
    return Split(*ids, Pairs.from_rows(users, items), none, none, "by hand")


def between_degrees(adjacency, degrees, normalization):
    """A between powers of given degrees."""
    scaled = [np.where(degrees > 0, np.maximum(degrees, 1) ** p, 0) for p in POWERS[normalization]]
    return scaled[0][:, None] * adjacency * scaled[1]


def ridge_map(from_, to, ridge):
    """The linear map by an ordinary least-squares problem with rows for the penalty."""
    width = from_.shape[1]
    weight = ridge * np.trace(from_.T @ from_) / width
    rows = np.concatenate([from_, np.sqrt(weight) * np.eye(width)])
    return np.linalg.lstsq(rows, np.concatenate([to, np.zeros((width, to.shape[1]))]))[0]


def folded(model, score=None, pairs=PAIRS, table=TABLE):
    params = LightGCNParams(jnp.asarray(table))
    learnt = Learnt(model, score or Inner(), params, split_of(*pairs))
    zeros = InnerProduct(np.zeros((NUM_USERS, DIM)), np.zeros((NUM_ITEMS, DIM)))
    return fold_in_of(zeros, None, learnt=learnt)


class Extended:
    """The graph with one newcomer as its last node, whose layer-0 embedding is the estimate."""

    def __init__(self, model, new_is_user, touched, pairs=PAIRS, table=TABLE, sizes=None):
        users, items = sizes or (NUM_USERS, NUM_ITEMS)
        nodes = users + items
        old = dense_adjacency(*pairs, users, items)
        self.model, self.touched = model, touched + users * new_is_user
        adjacency = np.pad(old, (0, 1))
        adjacency[-1, self.touched] = 1
        self.one_way = adjacency
        degrees = old.sum(axis=1)
        alphas, matrix = model.layer_weights, between_degrees(old, degrees, model.normalization)
        received = dense_multiscale(matrix, table, (0.0, *alphas[1:]))
        kind = slice(0, users) if new_is_user else slice(users, nodes)
        known = degrees[kind] > 0
        mapping = ridge_map(received[kind][known], table[kind][known], 1e-2)
        sent = dense_multiscale(matrix, table, alphas[1:])
        self.degrees = np.append(degrees, len(touched))
        self.degrees[self.touched] += 1
        row = between_degrees(adjacency, self.degrees, model.normalization)[-1]
        self.received = row[:-1] @ sent
        self.table = np.concatenate([table, (self.received @ mapping)[None]])
        self.old_degrees = np.append(degrees, len(touched))

    def with_one_way_edges(self):
        """Nobody but the newcomer changes, each old entry by the old degrees."""
        model = self.model
        matrix = between_degrees(self.one_way, self.old_degrees, model.normalization)
        matrix[-1] = between_degrees(self.one_way, self.degrees, model.normalization)[-1]
        return dense_multiscale(matrix, self.table, model.layer_weights)[-1]

    def with_both_ways(self):
        """All vectors as if the newcomer had been there."""
        adjacency = np.maximum(self.one_way, self.one_way.T)
        matrix = between_degrees(adjacency, self.degrees, self.model.normalization)
        return dense_multiscale(matrix, self.table, self.model.layer_weights)[-1]


MODELS = [
    LightGCN(dim=DIM),
    LightGCN(dim=DIM, layers=2, alphas=(0.5, -0.2, 0.7), normalization="row"),
    LightGCN(dim=DIM, layers=2, layer_combination="last", normalization="column"),
    LightGCN(dim=DIM, layers=4, normalization="none"),
]


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("model", MODELS, ids=range(len(MODELS)))
@pytest.mark.parametrize("new_is_user", [True, False])
def test_a_newcomer_is_a_node_that_changes_no_other(model, new_is_user):
    found = folded(model)[not new_is_user].vectors(LISTS)
    assert found.dtype == np.float64
    for vector, touched in zip(found, LISTS, strict=True):
        expected = Extended(model, new_is_user, touched).with_one_way_edges()
        np.testing.assert_allclose(vector, expected, **CLOSE)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("new_is_user", [True, False])
def test_with_one_layer_it_is_the_whole_graph_with_the_newcomer(new_is_user):
    model = LightGCN(dim=DIM, layers=1, alphas=(0.3, 0.7))
    found = folded(model)[not new_is_user].vectors(LISTS)
    for vector, touched in zip(found, LISTS, strict=True):
        expected = Extended(model, new_is_user, touched).with_both_ways()
        np.testing.assert_allclose(vector, expected, **CLOSE)


@pytest.mark.usefixtures("x64")
def test_what_is_left_out_is_small_and_shrinks_as_the_graph_grows():
    """Three layers: the newcomer's own echo, over the degrees of what they touch."""
    model, errors = LightGCN(dim=DIM), []
    for users in (40, 400):
        pairs = random_pairs(1, users, 30, density=0.5)
        table = np.random.default_rng(2).normal(size=(users + 30, DIM))
        learnt = Learnt(model, Inner(), LightGCNParams(jnp.asarray(table)),
                        split_of(*pairs, users, 30))  # fmt: skip
        tables = InnerProduct(np.zeros((users, DIM)), np.zeros((30, DIM)))
        touched = np.array([0, 7, 8, 20, 29])
        [vector] = fold_in_of(tables, None, learnt=learnt).users.vectors([touched])
        oracle = Extended(model, True, touched, pairs, table, (users, 30))
        whole = oracle.with_both_ways()
        errors.append(np.linalg.norm(vector - whole) / np.linalg.norm(whole))
        assert errors[-1] > 1e-6
    assert errors[0] < 0.1
    assert errors[1] < errors[0] / 3


@pytest.mark.usefixtures("x64")
def test_sgc_maps_what_is_received():
    model = SGC(dim=DIM, layers=2)
    params = jax.tree.map(
        lambda leaf: jnp.asarray(np.random.default_rng(3).normal(size=leaf.shape)),
        jax.eval_shape(lambda: model.init(jax.random.key(0), NODES)),
    )
    learnt = Learnt(model, Inner(), params, split_of(*PAIRS))
    tables = InnerProduct(np.zeros((NUM_USERS, DIM)), np.zeros((NUM_ITEMS, DIM)))
    found = fold_in_of(tables, None, learnt=learnt).users.vectors(LISTS)
    [kernel] = jax.tree.leaves(params.weights)
    for vector, touched in zip(found, LISTS, strict=True):
        oracle = Extended(model, True, touched, table=np.asarray(params.table))
        expected = oracle.with_one_way_edges() @ np.asarray(kernel)
        np.testing.assert_allclose(vector, expected, **CLOSE)


@pytest.mark.usefixtures("x64")
def test_cosines_and_popularity_are_those_of_the_score():
    model, score = LightGCN(dim=DIM), Cosine(popularity_offset=0.5)
    plain, scored = folded(model), folded(model, score)
    for place in (0, 1):
        bare = plain[place].vectors(LISTS)
        found = scored[place].vectors(LISTS)
        unit = bare / np.linalg.norm(bare, axis=1, keepdims=True)
        np.testing.assert_allclose(found[:, :-1], unit)
    # A user's last column is 1, an item's the offset for its number of users.
    np.testing.assert_array_equal(scored.users.vectors(LISTS)[:, -1], 1)
    offsets = 0.5 * np.log1p([3, 1, 3])
    np.testing.assert_allclose(scored.items.vectors(LISTS)[:, -1], offsets)
    by_length = folded(model, Cosine(ranked_by_length=True)).users.vectors(LISTS)
    np.testing.assert_allclose(by_length, plain.users.vectors(LISTS))


def tables_of(offset_columns=0):
    rng = np.random.default_rng(4)
    users, items = rng.normal(size=(NUM_USERS, DIM + 2)), rng.normal(size=(NUM_ITEMS, DIM + 2))
    users, items = users[:, : DIM + offset_columns], items[:, : DIM + offset_columns]
    return InnerProduct(users, items)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("biases", [False, True])
def test_mf_takes_least_squares(biases):
    """A step in any direction from the found direction makes the objective worse."""
    model = MF(dim=DIM, biases=biases)
    tables, train = tables_of(2 * biases), csr_rows(*PAIRS, NUM_USERS)
    learnt = Learnt(model, Inner(), None, split_of(*PAIRS))
    found = fold_in_of(tables, train, 2 * biases, learnt).users.vectors(LISTS)
    users, items = np.asarray(tables.queries), np.asarray(tables.items)
    trained = users[np.unique(PAIRS[0])]
    length = np.linalg.norm(trained[:, :DIM], axis=1).mean()
    gram = items[:, :DIM].T @ items[:, :DIM]
    penalty = 0.3 * np.trace(gram) / DIM
    for vector, touched in zip(found, LISTS, strict=True):
        q = items[touched, :DIM]

        def gradient(p, q=q):
            return 2 * (q.T @ (q @ p - 1) + 0.03 * gram @ p + penalty * p)

        np.testing.assert_allclose(vector[DIM:], trained[:, DIM:].mean(axis=0))
        direction, scale = vector[:DIM] / length, 0.0
        assert np.linalg.norm(direction) == pytest.approx(1)
        # The minimum lies on the ray: the gradient is linear along it.
        slope = gradient(direction) - gradient(0 * direction)
        scale = -(gradient(0 * direction) @ slope) / (slope @ slope)
        assert scale > 0
        np.testing.assert_allclose(gradient(scale * direction), 0, atol=1e-9)


@pytest.mark.usefixtures("x64")
def test_other_vectors_are_mapped_from_the_neighbours():
    tables, train = tables_of(), csr_rows(*PAIRS, NUM_USERS)
    found = fold_in_of(tables, train).users.vectors(LISTS)
    users, items = np.asarray(tables.queries), np.asarray(tables.items)
    adjacency = dense_adjacency(*PAIRS, NUM_USERS, NUM_ITEMS)
    matrix = between_degrees(adjacency, adjacency.sum(1), "symmetric")
    known = np.unique(PAIRS[0])
    mapping = ridge_map((matrix[:NUM_USERS, NUM_USERS:] @ items)[known], users[known], 1e-2)
    degrees = np.bincount(PAIRS[1], minlength=NUM_ITEMS)
    length = np.linalg.norm(users[known], axis=1).mean()
    for vector, touched in zip(found, LISTS, strict=True):
        sums = (items[touched] / np.sqrt(degrees[touched] + 1)[:, None]).sum(0)
        expected = sums / np.sqrt(len(touched)) @ mapping
        np.testing.assert_allclose(vector, expected * length / np.linalg.norm(expected))


def test_where_nothing_is_known_of_training_neighbours_count_alike():
    tables = tables_of()
    [vector] = fold_in_of(tables, None).users.vectors([np.array([2, 5])])
    expected = np.asarray(tables.items)[[2, 5]].sum(0)
    length = np.linalg.norm(np.asarray(tables.queries), axis=1).mean()
    expected *= length / np.linalg.norm(expected)
    np.testing.assert_allclose(vector, expected, rtol=1e-5)


def test_lists_do_not_depend_on_each_other_and_recompile_nothing():
    making = folded(LightGCN(dim=DIM), table=TABLE.astype(np.float32)).users
    alone = [making.vectors([one])[0] for one in LISTS]
    making.vectors(LISTS)
    before = fold_in._made._cache_size()
    together = making.vectors([*LISTS, np.arange(NUM_ITEMS)])
    assert fold_in._made._cache_size() == before
    np.testing.assert_allclose(together[:3], alone, **CLOSE)
    many = making.vectors([LISTS[at % 3] for at in range(100)])
    np.testing.assert_allclose(many[99], alone[0], **CLOSE)
    assert making.vectors([]).shape == (0, DIM)
    assert not making.vectors([np.array([], int)]).any()


@pytest.fixture(scope="module")
def run(small_split, tmp_path_factory):
    config = from_flat({
        "dim": 8, "epochs": 6, "batch_size": 256, "negatives": 16, "ks": (5, 10),
        "evaluate_every": 2, "patience": 0, "learning_rate": 0.02,
    })  # fmt: skip
    return fit(small_split, config, out=tmp_path_factory.mktemp("runs") / "run")


def test_a_run_keeps_what_newcomers_are_made_from(run):
    stored, fresh = Recommender.from_run(run.directory), Recommender.from_fit(run)
    items = stored.items.ids[:5].to_list()
    vectors = stored.new_user_vectors([items, items[:2]])
    np.testing.assert_allclose(vectors, fresh.new_user_vectors([items, items[:2]]), rtol=1e-5)
    # A user of their own items is nearly who they are.
    split, table = stored.learnt.split, stored.user_embeddings
    rows = [split.train.items[split.train.users == user] for user in range(len(split.users))]
    known = [user for user, own in enumerate(rows) if len(own)]
    again = stored.new_user_vectors([split.items.external(rows[user]) for user in known])
    cosines = (again * table[known]).sum(1)
    cosines /= np.linalg.norm(again, axis=1) * np.linalg.norm(table[known], axis=1)
    assert np.median(cosines) > 0.9


def test_several_at_once_are_each_alone(run):
    recommender = Recommender.from_fit(run)
    ids = recommender.items.ids.to_list()
    lists = [ids[:3], ids[10:11], ids[20:29]]
    for alone, found in zip(lists, recommender.recommend_from_each(lists, 6), strict=True):
        expected = recommender.recommend_from(alone, 6)
        assert found.ids == expected.ids
        assert not set(found.ids) & set(alone)
        np.testing.assert_allclose(found.scores, expected.scores, rtol=1e-5)
    [vector] = recommender.new_user_vectors([ids[:3]])
    scores = recommender.item_embeddings @ vector
    found = recommender.recommend_from(ids[:3], 1, exclude_given=False)
    assert found.scores[0] == pytest.approx(scores.max(), rel=1e-5)
    assert recommender.recommend_from_each([], 3) == []


def test_a_new_item_stands_beside_what_its_users_have(run):
    recommender = Recommender.from_fit(run)
    split = run.split
    row = int(np.bincount(split.train.items).argmax())
    users = split.users.external(split.train.users[split.train.items == row])
    [vector] = recommender.new_item_vectors([users])
    own = recommender.item_embeddings
    cosines = own @ vector / np.linalg.norm(own, axis=1) / np.linalg.norm(vector)
    assert cosines[row] > 0.9
    with pytest.raises(InputError, match="users: unknown user ids: 'nobody'"):
        recommender.new_item_vectors([["nobody"]])


def test_a_run_without_parameters_answers_from_final_vectors(run, tmp_path):
    old = RunDirectory(tmp_path / "old")
    old.path.mkdir()
    for file in run.directory.iterdir():
        if file.is_file() and file.name not in ("parameters.safetensors", "sums.json"):
            (old.path / file.name).write_bytes(file.read_bytes())
    recommender = Recommender.from_run(old.path)
    assert recommender.learnt is None
    assert recommender.recommend_from(recommender.items.ids[:3].to_list(), 5).ids
    (old.path / "parameters.safetensors").write_bytes(b"no tensors")
    with pytest.raises(InputError, match=r"parameters\.safetensors"):
        Recommender.from_run(old.path)


def test_a_network_scores_a_newcomer_by_the_same_vector(run):
    config = dataclasses.replace(run.config, score=MLP(hidden=4))
    result = fit(run.split, config)
    recommender = Recommender.from_fit(result)
    items = recommender.items.ids[:4].to_list()
    [vector] = recommender.new_user_vectors([items])
    scorer = dataclasses.replace(result.scorer, queries=jnp.asarray(vector[None]))
    scores = np.asarray(scorer.scores(jnp.zeros(1, jnp.int32)))[:, 0]
    found = recommender.recommend_from(items, 3, exclude_given=False)
    np.testing.assert_allclose(found.scores, np.sort(scores)[::-1][:3], rtol=1e-4, atol=1e-6)
