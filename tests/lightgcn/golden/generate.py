"""Trains LightGCN in plain NumPy float64 on a small world and writes the numbers to golden.json.

Run from the repository's root: ``python -m tests.lightgcn.golden.generate``. It imports nothing of
``lightgcn_jax``: dense matrices, gradients written out by hand, Adam from its paper's algorithm 1.
The batches are fixed arrays, so no random stream has to be shared.
"""

import json
from pathlib import Path

import numpy as np

from tests.lightgcn.oracles import dense_normalized_adjacency

GOLDEN = Path(__file__).with_name("golden.json")
NUM_USERS, NUM_ITEMS, DIM, STEPS, BATCH, SHARED = 12, 15, 4, 30, 8, 5
ALPHAS, L2, RATE = (0.4, 0.3, 0.2, 0.1), 1e-2, 0.05


def world():
    """Interactions ``bool[U, I]``: a band around the diagonal, the last user and item alone."""
    users, items = np.indices((NUM_USERS, NUM_ITEMS))
    seen = (users + 2 * items) % 5 < 2
    seen[-1], seen[:, -1] = False, False
    return seen


def initial_table():
    nodes, dims = np.indices((NUM_USERS + NUM_ITEMS, DIM))
    return 0.3 * np.sin(1.0 + 1.7 * nodes + 0.9 * dims * nodes)


def batch(step):
    """Users and positives from the interactions in turn, shared items in a fixed rotation."""
    users, items = np.nonzero(world())
    rows = (step * BATCH + np.arange(BATCH)) % len(users)
    return users[rows], items[rows], (3 * step + 4 * np.arange(SHARED)) % NUM_ITEMS


def loss_and_gradient(table, step):
    seen, (users, positives, negatives) = world(), batch(step)
    matrix = dense_normalized_adjacency(*np.nonzero(seen), NUM_USERS, NUM_ITEMS)
    smoother = sum(a * np.linalg.matrix_power(matrix, k) for k, a in enumerate(ALPHAS))
    final, final_bar = smoother @ table, np.zeros_like(table)
    table_bar, total = np.zeros_like(table), 0.0
    valid = ~seen[users][:, negatives]
    counted = valid.any(axis=1).sum()
    for user, positive, allowed in zip(users, positives, valid, strict=True):
        for item in negatives[allowed]:
            margin = final[user] @ (final[NUM_USERS + positive] - final[NUM_USERS + item])
            share = 1 / (allowed.sum() * counted)
            total += share * np.log1p(np.exp(-margin))
            slope = -share / (1 + np.exp(margin))
            final_bar[user] += slope * (final[NUM_USERS + positive] - final[NUM_USERS + item])
            final_bar[NUM_USERS + positive] += slope * final[user]
            final_bar[NUM_USERS + item] -= slope * final[user]
    for nodes, weight in (
        (users, 1 / BATCH),
        (NUM_USERS + positives, 1 / BATCH),
        (NUM_USERS + negatives, 1 / SHARED),
    ):
        total += L2 * 0.5 * weight * (table[nodes] ** 2).sum()
        np.add.at(table_bar, nodes, L2 * weight * table[nodes])
    return total, smoother.T @ final_bar + table_bar


def train():
    """Losses of every step and the final table."""
    table, losses = initial_table(), []
    first, second = np.zeros_like(table), np.zeros_like(table)
    for step in range(STEPS):
        loss, gradient = loss_and_gradient(table, step)
        losses.append(loss)
        first = 0.9 * first + 0.1 * gradient
        second = 0.999 * second + 0.001 * gradient**2
        corrected = first / (1 - 0.9 ** (step + 1))
        scale = np.sqrt(second / (1 - 0.999 ** (step + 1))) + 1e-8
        table = table - RATE * corrected / scale
    return losses, table


if __name__ == "__main__":
    losses, table = train()
    numbers = {"losses": losses, "table": table.tolist()}
    GOLDEN.write_text(json.dumps(numbers, indent=1) + "\n", encoding="utf-8")
