"""NGCF in PyTorch gives the values, gradients and steps of its equations, dense in JAX, float64."""

import itertools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")
pytest.importorskip("torch_geometric", reason="needs PyG, which the bench extra brings")
pytest.importorskip("numba", reason="needs numba, which the bench extra brings")

import torch

from benchmarks.peers.torch_lightgcn import Trainer
from benchmarks.peers.torch_ngcf import SymmetricNGCF, TorchNGCF, Weights
from lightgcn_jax.graph import BipartiteGraph
from tests.lightgcn.oracles import dense_normalized_adjacency

NUM_USERS, NUM_ITEMS, BATCH, STEPS = 6, 8, 16, 5
LEARNING_RATE, L2 = 0.01, 0.05
WIDTHS = (4, 5, 3, 2)
BOTH = pytest.mark.parametrize("model", [TorchNGCF, SymmetricNGCF])

# The last user and the last item have no interaction.
PAIRS = np.nonzero(np.random.default_rng(0).random((NUM_USERS - 1, NUM_ITEMS - 1)) < 0.4)
GRAPH = BipartiteGraph.from_pairs(*PAIRS, num_users=NUM_USERS, num_items=NUM_ITEMS)
ADJACENCY = dense_normalized_adjacency(*PAIRS, NUM_USERS, NUM_ITEMS)


def start(layers: int) -> tuple[np.ndarray, Weights]:
    """A node table, and matrices that are not square."""
    rng = np.random.default_rng(1)
    table = rng.standard_normal((NUM_USERS + NUM_ITEMS, WIDTHS[0]))
    shapes = list(itertools.pairwise(WIDTHS[: layers + 1]))
    sums, products = ([0.5 * rng.standard_normal(shape) for shape in shapes] for _ in range(2))
    return table, Weights(sums, products)


def draw_batches() -> list[np.ndarray]:
    """Users, positives and negatives, ``int64[3, B]`` each; with repetitions."""
    rng = np.random.default_rng(2)
    bounds = np.array([[NUM_USERS], [NUM_ITEMS], [NUM_ITEMS]])
    return [rng.integers(bounds, size=(3, BATCH)) for _ in range(STEPS)]


def dense_final(params):
    """The final embeddings, from the paper's equations."""
    table, weights = params
    layers = [table]
    for of_sum, of_product in zip(*weights, strict=True):
        e, side = layers[-1], ADJACENCY @ layers[-1]
        layers.append(jax.nn.leaky_relu((side + e) @ of_sum + (e * side) @ of_product, 0.2))
    return jnp.concatenate(layers, axis=1)


def dense_loss(params, batch):
    nodes = batch + np.array([[0], [NUM_USERS], [NUM_USERS]])
    user, positive, negative = dense_final(params)[nodes]
    margins = (user * (positive - negative)).sum(axis=1)
    penalty = 0.5 * (params[0][nodes] ** 2).sum() / BATCH
    return -jnp.log(jax.nn.sigmoid(margins)).mean() + L2 * penalty


@jax.jit
def dense_loss_and_gradient(params, batch):
    return jax.value_and_grad(dense_loss)(params, batch)


def flat(table, weights: Weights) -> list[np.ndarray]:
    return [np.asarray(table), *map(np.asarray, (*weights.sums, *weights.products))]


def assert_close(got: list[np.ndarray], expected: list[np.ndarray]):
    for one, other in zip(got, expected, strict=True):
        assert one.dtype == other.dtype == np.float64
        np.testing.assert_allclose(one, other, rtol=1e-9, atol=1e-12)


@BOTH
@pytest.mark.parametrize("layers", [0, 1, 3])
def test_embeddings_and_gradients_are_those_of_the_equations(model, layers):
    table, weights = start(layers)
    batch = draw_batches()[0]
    with jax.enable_x64(True):
        final = np.asarray(dense_final((table, weights)))
        loss, gradients = dense_loss_and_gradient((table, weights), batch)
    peer = model(GRAPH, table, weights)
    users, items = peer.propagate()
    assert users.shape == (NUM_USERS, sum(WIDTHS[: layers + 1]))
    assert_close([torch.cat([users, items]).detach().numpy()], [final])
    ranking, penalty = peer.loss(*torch.from_numpy(batch))
    total = ranking + L2 * penalty
    total.backward()
    assert total.item() == pytest.approx(float(loss), rel=1e-12)
    tables = torch.cat([peer.user_table.weight.grad, peer.item_table.weight.grad])
    matrices = Weights(*([w.grad for w in ws] for ws in (peer.sums, peer.products)))
    assert_close(flat(tables, matrices), flat(*gradients))


@BOTH
def test_steps_of_adam_are_those_of_optax(model):
    table, weights = start(3)
    batches = draw_batches()
    peer = model(GRAPH, table, weights)
    trainer = Trainer(peer, LEARNING_RATE, L2)
    losses = [trainer.step(*torch.from_numpy(batch)) for batch in batches]
    optimizer = optax.adam(LEARNING_RATE)
    with jax.enable_x64(True):
        params = jax.tree.map(jnp.asarray, (table, weights))
        state = optimizer.init(params)
        expected = []
        for batch in batches:
            loss, gradients = dense_loss_and_gradient(params, batch)
            updates, state = optimizer.update(gradients, state)
            params = optax.apply_updates(params, updates)
            expected.append(float(loss))
    np.testing.assert_allclose(losses, expected, rtol=1e-9)
    trained = flat(peer.table(), peer.weights())
    assert_close(trained, flat(*params))
    for after, before in zip(trained, flat(table, weights), strict=True):
        assert np.abs(after - before).max() > 0.02


@BOTH
def test_the_arrays_that_it_starts_from_stay(model):
    table, weights = start(1)
    copies = [array.copy() for array in flat(table, weights)]
    Trainer(model(GRAPH, table, weights), LEARNING_RATE, L2).step(
        *torch.from_numpy(draw_batches()[0])
    )
    for array, copy in zip(flat(table, weights), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


def test_message_dropout_drops_entries_of_a_layer_in_training_alone():
    users, items = np.nonzero(np.ones((40, 60)))
    graph = BipartiteGraph.from_pairs(users, items, num_users=40, num_items=60)
    rng = np.random.default_rng(3)
    table, matrix = rng.standard_normal((100, 50)), rng.standard_normal((50, 50))
    torch.manual_seed(0)
    weights = Weights([matrix], [matrix])
    peer = TorchNGCF(graph, table, weights, message_dropout=0.25)
    dropping = torch.cat(peer.propagate()).detach().numpy()
    np.testing.assert_array_equal(dropping[:, :50], table)
    whole = torch.cat(peer.eval().propagate()).detach().numpy()
    np.testing.assert_array_equal(
        whole, torch.cat(TorchNGCF(graph, table, weights).propagate()).detach().numpy()
    )
    kept = dropping[:, 50:] != 0
    np.testing.assert_allclose(dropping[:, 50:][kept], whole[:, 50:][kept] / 0.75)
    # Within four standard deviations of a binomial of 5,000 entries.
    assert kept.mean() == pytest.approx(0.75, abs=4 * np.sqrt(0.25 * 0.75 / kept.size))
