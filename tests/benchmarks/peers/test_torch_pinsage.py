"""PinSAGE in PyTorch has the loss and the gradient of our step, from the same draws."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")

import torch

from benchmarks.peers.torch_pinsage import trainer_of
from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.blocks import bounds, make_blocks, mark_layers
from pinsage_jax.encoder.pinsage import STRUCTURE, init_params, make_model
from pinsage_jax.features.inputs import Input
from pinsage_jax.graph.neighborhoods import NeighborTable
from pinsage_jax.training.batch import ItemArrays, Targets, TrainingView
from pinsage_jax.training.step import batch_gradient, in_places

ITEMS, NEIGHBORS, BATCH, NEGATIVES, WIDTH, RANK = 40, 4, 8, 12, 5, 3
PLAIN = PinSageConfig(
    dim=6,
    neighbors=NEIGHBORS,
    structure=0,
    loss="max-margin",
    unit_length=True,
    negatives=NEGATIVES,
    drop_contexts=0.0,
)
DEFAULT = PinSageConfig(dim=6, neighbors=NEIGHBORS, structure=RANK, negatives=NEGATIVES)
INPUTS = (Input.dense("visual", WIDTH), Input.dense("log_degree", 1))
DEGREE_OF_NONE = -0.5


@pytest.mark.parametrize("config", [PLAIN, DEFAULT], ids=["max-margin", "default"])
def test_the_peer_is_the_same_function(config):
    rng = np.random.default_rng(0)
    inputs = (*INPUTS, *([Input.dense(STRUCTURE, RANK)] if config.structure else []))
    features = {one.name: rng.normal(size=(ITEMS, one.width)).astype(np.float32) for one in inputs}
    ids = rng.permuted(np.tile(np.arange(ITEMS, dtype=np.int32), (ITEMS, 1)), axis=1)
    ids = ids[:, :NEIGHBORS]
    ids[::7, 2:] = -1
    weights = np.where(ids >= 0, rng.random(ids.shape), 0).astype(np.float32)
    weights /= weights.sum(axis=1, keepdims=True)
    queries, positives = rng.integers(0, ITEMS, (2, BATCH), np.int32)
    negatives = rng.integers(0, ITEMS, NEGATIVES, np.int32)
    lost = rng.random(ITEMS) < 0.3 if config.drop_contexts else None

    model = make_model(inputs, config)
    params = init_params(jax.random.key(0), model)
    items = ItemArrays(
        features=jax.tree.map(jnp.asarray, features),
        table=NeighborTable(jnp.asarray(ids), jnp.asarray(weights)),
        training_items=jnp.arange(ITEMS, dtype=jnp.int32),
        degree_of_none=jnp.float32(DEGREE_OF_NONE),
    )
    view = TrainingView(items, None, None if lost is None else jnp.asarray(lost))
    targets = Targets(queries[:, None], positives, negatives, np.full((BATCH, 0), -1, np.int32))
    most = bounds(2 * BATCH + NEGATIVES, NEIGHBORS, model.layers, ITEMS)

    @jax.jit
    def slope(params):
        blocks = make_blocks(view, mark_layers(view, targets.ids, model.layers, most), most)
        return batch_gradient(
            params,
            jax.random.key(0),
            view.features(blocks.nodes),
            blocks.layers,
            in_places(targets, blocks.place),
            jnp.ones(BATCH),
            model=model,
            config=config,
        )

    loss, gradient = slope(params)

    names = [one.name for one in inputs]
    trainer = trainer_of(config, features, items, params)
    peer = trainer.model
    rows = (torch.tensor(one).long() for one in (queries, positives, negatives))
    of_peer = trainer.loss(*rows, None if lost is None else torch.tensor(lost))
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
    maps = np.concatenate([gradient[f"map_{name}"]["kernel"] for name in names])
    np.testing.assert_allclose(peer.encode.weight.grad.T, maps, rtol=1e-3, atol=1e-6)
    if config.structure:
        np.testing.assert_allclose(peer.gain.grad, gradient["structure_gain"], rtol=1e-3)
