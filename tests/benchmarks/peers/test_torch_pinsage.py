"""PinSAGE in PyTorch has the loss and the gradient of our step, from the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")

import torch

from benchmarks.peers.torch_pinsage import TorchPinSage, Trainer
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.blocks import bounds, make_blocks, mark_layers, take_features
from pinsage_jax.encoder.pinsage import init_params, make_model
from pinsage_jax.features.inputs import Input
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.training.batch import Targets
from pinsage_jax.training.step import batch_gradient, in_places

ITEMS, NEIGHBORS, BATCH, NEGATIVES, WIDTH = 40, 4, 8, 12, 5
CONFIG = PinSageConfig(
    dim=6,
    neighbors=NEIGHBORS,
    structure=0,
    loss="max-margin",
    unit_length=True,
    negatives=NEGATIVES,
)
INPUTS = (Input("visual", "dense", WIDTH, WIDTH), Input("log_degree", "dense", 1, 1))


def test_the_peer_is_the_same_function():
    rng = np.random.default_rng(0)
    features = {one.name: rng.normal(size=(ITEMS, one.width)).astype(np.float32) for one in INPUTS}
    ids = rng.permuted(np.tile(np.arange(ITEMS, dtype=np.int32), (ITEMS, 1)), axis=1)
    ids = ids[:, :NEIGHBORS]
    ids[::7, 2:] = -1
    weights = np.where(ids >= 0, rng.random(ids.shape), 0).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    queries, positives = rng.integers(0, ITEMS, (2, BATCH), np.int32)
    negatives = rng.integers(0, ITEMS, NEGATIVES, np.int32)

    model = make_model(INPUTS, CONFIG)
    params = init_params(jax.random.key(0), model)
    table = NeighborTable(jnp.asarray(ids), jnp.asarray(weights))
    targets = Targets(queries[:, None], positives, negatives, np.full((BATCH, 0), -1, np.int32))
    most = bounds(2 * BATCH + NEGATIVES, NEIGHBORS, model.layers, ITEMS)

    @jax.jit
    def slope(params):
        blocks = make_blocks(table, mark_layers(table, targets.ids, model.layers, most), most)
        return batch_gradient(
            params,
            jax.random.key(0),
            take_features(jax.tree.map(jnp.asarray, features), blocks.nodes),
            blocks.layers,
            in_places(targets, blocks.place),
            jnp.ones(BATCH),
            model=model,
            config=CONFIG,
        )

    loss, gradient = slope(params)

    inputs = np.concatenate([features[one.name] for one in INPUTS], axis=1)
    peer = TorchPinSage(inputs, ids, weights, CONFIG.dim, model.layers)
    peer.load(jax.tree.map(np.asarray, params), [one.name for one in INPUTS])
    trainer = Trainer(peer, learning_rate=0.1, margin=CONFIG.margin)
    of_peer = trainer.loss(*(torch.tensor(one).long() for one in (queries, positives, negatives)))
    of_peer.backward()
    assert loss > 0.01
    np.testing.assert_allclose(of_peer.item(), loss, rtol=1e-5)
    slopes = {
        "message_0": peer.message[0],
        "message_1": peer.message[1],
        "combine_0": peer.combine[0],
        "hidden": peer.hidden,
    }
    for name, layer in slopes.items():
        expected = gradient[name]["kernel"]
        assert np.abs(expected).max() > 1e-4
        np.testing.assert_allclose(layer.weight.grad.T, expected, rtol=1e-3, atol=1e-6)
    maps = np.concatenate([gradient[f"map_{one.name}"]["kernel"] for one in INPUTS])
    np.testing.assert_allclose(peer.encode.weight.grad.T, maps, rtol=1e-3, atol=1e-6)
