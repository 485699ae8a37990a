"""PyTorch's best LightGCN is the same function as the one that is written as its ports write it."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")

import torch

from benchmarks.peers.torch_lightgcn import SymmetricLightGCN, TorchLightGCN, Trainer
from lightgcn_jax.graph import BipartiteGraph

NUM_USERS, NUM_ITEMS = 6, 8


@pytest.mark.parametrize("layers", [0, 3])
def test_both_take_the_same_steps(layers):
    rng = np.random.default_rng(0)
    # The last user and the last item have no interaction.
    users, items = np.nonzero(rng.random((NUM_USERS - 1, NUM_ITEMS - 1)) < 0.4)
    graph = BipartiteGraph.from_pairs(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS)
    table = rng.standard_normal((NUM_USERS + NUM_ITEMS, 5))
    bounds = np.array([[NUM_USERS], [NUM_ITEMS], [NUM_ITEMS]])
    batches = [torch.from_numpy(rng.integers(bounds, size=(3, 16))) for _ in range(4)]
    losses, tables = [], []
    for model in (TorchLightGCN, SymmetricLightGCN):
        peer = model(graph, table, layers)
        trainer = Trainer(peer, learning_rate=0.05, l2=0.1)
        losses.append([trainer.step(*batch) for batch in batches])
        tables.append(peer.table())
    assert tables[0].dtype == tables[1].dtype == np.float64
    np.testing.assert_allclose(*losses, rtol=1e-12)
    np.testing.assert_allclose(*tables, rtol=1e-10, atol=1e-12)
    assert np.abs(tables[0] - table).max() > 0.1
