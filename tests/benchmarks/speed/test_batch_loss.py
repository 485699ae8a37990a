"""The benchmark of a batch's loss: all sides compute the same, and each order holds each number."""

import numpy as np
import pytest

pytest.importorskip("torch", reason="needs PyTorch, which the bench extra brings")

from benchmarks.speed import batch_loss


def test_all_sides_compute_the_same_loss_and_gradient():
    found = batch_loss.losses(70, 20, 8)
    ours, table, torch = (found[name]() for name in ("kernel", "XLA", "PyTorch"))
    for other in (table, torch):
        np.testing.assert_allclose(float(ours[0]), float(other[0]), rtol=1e-5)
        for one, same in zip(ours[1], other[1], strict=True):
            np.testing.assert_allclose(one, np.asarray(same), rtol=1e-4, atol=1e-7)


def test_orders_hold_each_number_once():
    for order in batch_loss.orders(70_000).values():
        np.testing.assert_array_equal(np.sort(np.asarray(order())), np.arange(70_000))
