"""The PyTorch peer and our own step and ranking give the same numbers in float64."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")

from benchmarks.parity import lightgcn as parity
from benchmarks.peers import torch_lightgcn as torch_peer
from benchmarks.peers.lightgcn_pytorch_checkout import CheckoutPeer
from benchmarks.workloads.gowalla import Workload, draw_batches
from lightgcn_jax.data import Interactions, ratio_split
from lightgcn_jax.diffusion import diffusion_operator
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation import InnerProduct, evaluate
from lightgcn_jax.graph import BipartiteGraph, csr_rows
from lightgcn_jax.models import LightGCN
from lightgcn_jax.settings import TrainConfig
from lightgcn_jax.training import Optimization, PerUserNegatives, StepInputs

NUM_USERS, NUM_ITEMS, STEPS = 40, 60, 6
MODEL = LightGCN(dim=8)
RATES = Optimization(batch_size=32, sampling="users", learning_rate=0.01, l2=0.01)
CONFIG = TrainConfig(model=MODEL, negatives=PerUserNegatives(1), optimization=RATES, ks=(20,))


@pytest.fixture(scope="module")
def graph() -> BipartiteGraph:
    """The last user and the last item have no interaction."""
    rng = np.random.default_rng(0)
    users, items = np.nonzero(rng.random((NUM_USERS - 1, NUM_ITEMS - 1)) < 0.1)
    return BipartiteGraph.from_pairs(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS)


@pytest.fixture(scope="module")
def relevant(graph):
    """Unseen items of some users; the first user has more than the cut-off, the last none."""
    rng = np.random.default_rng(1)
    share = np.where(np.arange(NUM_USERS) == 0, 0.6, 0.1)[:, None]
    wanted = rng.random((NUM_USERS, NUM_ITEMS)) < share
    wanted[graph.pairs()] = False
    wanted[-1] = False
    assert wanted[0].sum() > 20
    users, items = np.nonzero(wanted)
    return csr_rows(users, items, NUM_USERS)


def vectors(seed: int) -> np.ndarray:
    return 0.1 * np.random.default_rng(seed).standard_normal((NUM_USERS + NUM_ITEMS, MODEL.dim))


def train_both(graph, config, peer_config) -> tuple[parity.Trained, parity.Trained, np.ndarray]:
    """Both from one float64 table over one list of batches; and that table."""
    table = vectors(2)
    inputs = StepInputs.of(graph, config.strategies)
    batches = draw_batches(inputs, config, STEPS)
    rows = torch_peer.peer_rows(graph.items_of_user, graph.items_of_user, NUM_ITEMS)
    with jax.enable_x64():
        operator = diffusion_operator(graph, dtype=jnp.float64)
        ours = parity.train_ours(table, batches, inputs._replace(operator=operator), config)
    peer = parity.OwnPeer(graph, rows, table, peer_config)
    return ours, parity.train_peer(peer, batches), table


@pytest.mark.parametrize("layers", [0, 1, 3])
def test_training_gives_the_parameters_and_losses_of_the_peer(graph, layers):
    config = dataclasses.replace(CONFIG, model=LightGCN(dim=8, layers=layers))
    ours, peer, table = train_both(graph, config, config)
    assert ours.table.dtype == peer.table.dtype == np.float64
    np.testing.assert_allclose(ours.losses, peer.losses, rtol=1e-9)
    np.testing.assert_allclose(ours.table, peer.table, rtol=1e-9, atol=1e-12)
    assert parity.relative_difference(ours.table - table, peer.table - table) < 1e-9
    assert np.abs(ours.table - table).max() > 0.01


@pytest.mark.parametrize(
    "change",
    [
        {"optimization": dataclasses.replace(RATES, l2=0.02)},
        {"optimization": dataclasses.replace(RATES, learning_rate=0.011)},
        {"model": LightGCN(dim=8, layers=2)},
    ],
)
def test_another_setting_shows(graph, change):
    ours, peer, table = train_both(graph, CONFIG, dataclasses.replace(CONFIG, **change))
    assert parity.relative_difference(ours.table - table, peer.table - table) > 1e-3


@pytest.mark.parametrize("batch_size", [7, 64])
def test_both_evaluations_agree(graph, relevant, batch_size):
    users, items = np.split(vectors(3), [NUM_USERS])
    rows = torch_peer.peer_rows(graph.items_of_user, relevant, NUM_ITEMS)
    rating = torch_peer.fixed_rating(users, items)
    peer = torch_peer.evaluate(rating, rows, k=20, batch_size=batch_size)
    with jax.enable_x64():
        ours = evaluate(
            InnerProduct(jnp.asarray(users), jnp.asarray(items)),
            relevant,
            ks=(20,),
            seen=graph.items_of_user,
        )
    evaluated = len(ours.users)
    assert evaluated == len(rows.relevant) < NUM_USERS

    def hits(precision):
        return round(precision * 20 * evaluated)

    assert hits(ours.metrics["precision@20"]) == hits(peer.precision) > 0
    # Our metrics of one user are float32; the hits they are made of are equal.
    for name, value in peer._asdict().items():
        assert ours.metrics[f"{name}@20"] == pytest.approx(value, rel=1e-6)


def test_the_peer_ranks_its_own_diffused_vectors(graph, relevant):
    model = torch_peer.TorchLightGCN(graph, vectors(4), layers=2)
    rows = torch_peer.peer_rows(graph.items_of_user, relevant, NUM_ITEMS)
    users, items = (half.detach().numpy() for half in model.propagate())
    diffused = torch_peer.fixed_rating(users, items)
    expected = torch_peer.evaluate(diffused, rows, k=20, batch_size=16)
    assert torch_peer.evaluate(model.rating, rows, k=20, batch_size=16) == expected


def test_a_folder_that_is_no_checkout_is_refused(graph, relevant, tmp_path):
    pairs = [ids.tolist() for ids in graph.pairs()]
    split = ratio_split(Interactions.from_arrays(*pairs))
    workload = Workload(split, graph, diffusion_operator(graph), relevant)
    with pytest.raises(InputError, match="expected a checkout of LightGCN-PyTorch"):
        CheckoutPeer(tmp_path, workload, vectors(5), CONFIG, 2048)
