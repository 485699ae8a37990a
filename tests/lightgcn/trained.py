"""Parameters, operators and compiled functions that tests of the trained models share."""

import jax
import jax.numpy as jnp
import numpy as np

from lightgcn_jax.diffusion import diffusion_operator
from tests.lightgcn.oracles import dense_normalized_adjacency
from tests.lightgcn.worlds import NUM_ITEMS, NUM_USERS, graph_of, random_pairs

NODES, DIM = NUM_USERS + NUM_ITEMS, 4
PAIRS = random_pairs(0)
# Any nodes, one of them twice.
ROWS = jnp.array([3, NODES - 1, 0, 3, NUM_USERS], jnp.int32)


def random_params(model, num_nodes=NODES, seed=0):
    """Normal float64 values in the place of each parameter, biases and zeros included."""
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(lambda: model.init(jax.random.key(0), num_nodes))
    return jax.tree.map(lambda leaf: jnp.asarray(rng.normal(size=leaf.shape)), shapes)


def operator_and_matrix(normalization="symmetric", pairs=PAIRS):
    """The operator in the precision of the moment, and the dense float64 matrix."""
    matrix = dense_normalized_adjacency(*pairs, NUM_USERS, NUM_ITEMS, normalization)
    graph = graph_of(*pairs)
    return diffusion_operator(graph, dtype=float, normalization=normalization), matrix


def _vectors(model, params, operator, rows=None, **key):
    if rows is None:
        return model.apply(params, operator, **key)
    return model.apply_rows(params, operator, rows, **key)


# Parameters before the first step.
initial = jax.jit(lambda model, key, num_nodes: model.init(key, num_nodes), static_argnums=(0, 2))
# Final vectors of all nodes, or of some; what is dropped only with a key.
vectors = jax.jit(_vectors, static_argnums=0)


def _vectors_and_gradient(model, params, operator, rows=None, taken=None):
    """Vectors as above, and the gradient of a function of those that are taken, or of all."""

    def loss(params):
        found = _vectors(model, params, operator, rows)
        return jnp.sin(found if taken is None else found[taken]).sum(), found

    gradient, found = jax.grad(loss, has_aux=True)(params)
    return found, gradient


vectors_and_gradient = jax.jit(_vectors_and_gradient, static_argnums=0)


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
