"""Parameters and operators that tests of the trained models share."""

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.diffusion import diffusion_operator
from tests.lightgcn.oracles import dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

NODES, DIM = NUM_USERS + NUM_ITEMS, 4
PAIRS = random_pairs(0)


def random_params(module, config, num_nodes=NODES, seed=0):
    """Normal float64 values in the place of each parameter, biases and zeros included."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: module.init(jax.random.key(0), num_nodes, config))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)


def operator_and_matrix(normalization="symmetric", pairs=PAIRS):
    """The operator in the precision of the moment, and the dense float64 matrix."""
    matrix = dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS, normalization)
    graph = graph_of(*pairs)
    return diffusion_operator(graph, dtype=float, normalization=normalization), matrix


def kernels(weights):
    """The matrices of flax variables by the name of their layer, in float64."""
    return {name: np.asarray(layer["kernel"], float) for name, layer in weights["params"].items()}


def normal_deviate(values, std):
    """How many standard errors the mean and the standard deviation of normal values are off."""
    count = values.size
    return (
        abs(values.mean()) / (std / np.sqrt(count)),
        abs(values.std() - std) / (std / np.sqrt(2 * count)),
    )
