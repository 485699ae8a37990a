"""Small graphs shared by the tests; a few fixed shapes, so that compiled functions are shared."""

import hypothesis.strategies as st
import numpy as np

from lightgcn_jax.graph import BipartiteGraph, CsrMatrix

NUM_USERS, NUM_ITEMS = 7, 9


def random_pairs(seed, num_users=NUM_USERS, num_items=NUM_ITEMS, density=0.3):
    rng = np.random.default_rng(seed)
    users, items = np.nonzero(rng.random((num_users, num_items)) < density)
    order = rng.permutation(len(users))
    return users[order], items[order]


def skewed_pairs(num_users=10, num_items=24):
    """User u has u²/4 items, from none to 20; the last items have no user."""
    rng = np.random.default_rng(0)
    chosen = [rng.permutation(num_items - 3)[: u * u // 4] for u in range(num_users)]
    users = np.repeat(np.arange(num_users), [len(items) for items in chosen])
    return users, np.concatenate(chosen)


def graph_of(users, items, num_users=NUM_USERS, num_items=NUM_ITEMS, weights=None):
    return BipartiteGraph.from_pairs(
        users, items, num_users=num_users, num_items=num_items, weights=weights
    )


def random_weights(count, seed=0):
    """From about 0.05 to 20, all different."""
    return np.exp(np.random.default_rng(seed).normal(size=count)).astype(np.float32)


def csr_of(dense):
    """The non-zeros of a dense matrix."""
    rows, columns = np.nonzero(dense)
    offsets = np.concatenate([[0], np.cumsum((dense != 0).sum(axis=1))])
    return CsrMatrix(offsets, columns, dense[rows, columns].astype(float), dense.shape[1])


@st.composite
def pair_sets(draw, num_users=NUM_USERS, num_items=NUM_ITEMS):
    """Any set of pairs, the empty one and single edges included."""
    pairs = draw(
        st.sets(
            st.tuples(st.integers(0, num_users - 1), st.integers(0, num_items - 1)), max_size=40
        )
    )
    array = np.array(sorted(pairs), np.int64).reshape(-1, 2)
    return array[:, 0], array[:, 1]
