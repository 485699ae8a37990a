"""LightGCN-PyTorch itself, imported from a checkout that the user gives, in place of our peer.

Its modules read ``sys.argv`` when they are imported and write next to its code (an empty
``checkpoints``) and its data (the normalised adjacency matrix), so the checkout must be writable.
Its imports want pandas, scikit-learn and tqdm.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
from numpy.typing import ArrayLike

from benchmarks.peers.torch_lightgcn import PeerMetrics
from benchmarks.workloads.gowalla import Workload, lightgcn_of
from lightgcn_jax.errors import InputError
from lightgcn_jax.settings.config import TrainConfig

_MODULES = ("world", "dataloader", "utils", "model", "Procedure")


class CheckoutPeer:
    """LightGCN-PyTorch's ``LightGCN``, ``BPRLoss`` and ``Procedure.Test`` on its own Gowalla.

    Args:
        checkout: its folder, with ``code`` and ``data/gowalla/train.txt`` and ``test.txt``.
        workload: our Gowalla, whose rows must be its ids.
        table: ``float32[N, D]`` initial layer-0 embeddings.
        config: the settings of the run.
        test_batch: how many users its evaluation ranks at a time.

    Raises:
        InputError: the folder is none of its checkouts, or holds other data than ours.
    """

    def __init__(
        self,
        checkout: Path,
        workload: Workload,
        table: np.ndarray,
        config: TrainConfig,
        test_batch: int,
    ):
        model, rates = lightgcn_of(config), config.optimization
        data = checkout.resolve() / "data" / "gowalla"
        for path in (checkout / "code" / "world.py", data / "train.txt", data / "test.txt"):
            if not path.is_file():
                raise InputError(f"{checkout}: expected a checkout of LightGCN-PyTorch with {path}")
        with _arguments(
            *("--dataset", "gowalla", "--topks", "[20]", "--tensorboard", "0"),
            *("--layer", str(model.layers), "--recdim", str(model.dim)),
            *("--lr", str(rates.learning_rate), "--decay", str(rates.l2)),
            *("--bpr_batch", str(rates.batch_size), "--testbatch", str(test_batch)),
        ):
            world, dataloader, utils, theirs, procedure = _import_from(checkout.resolve() / "code")
            self._dataset = dataloader.Loader(path=str(data))
            _check_same_data(self._dataset, workload)
            self._model = theirs.LightGCN(world.config, self._dataset)
        users, items = torch.from_numpy(np.array(table)).split(
            [workload.graph.num_users, workload.graph.num_items]
        )
        with torch.no_grad():
            self._model.embedding_user.weight.copy_(users)
            self._model.embedding_item.weight.copy_(items)
        self._loss = utils.BPRLoss(self._model, world.config)
        self._test: Callable = procedure.Test

    def step(self, users: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor) -> float:
        """Take one step of its Adam.

        Args:
            users: ``int64[B]`` rows.
            positives: ``int64[B]`` rows of items.
            negatives: ``int64[B]`` rows of items.

        Returns:
            The total loss before the step.
        """
        return self._loss.stageOne(users, positives, negatives)

    def table(self) -> np.ndarray:
        """Its layer-0 embeddings ``float32[N, D]``, users first."""
        weights = self._model.embedding_user.weight, self._model.embedding_item.weight
        with torch.no_grad():
            return torch.cat(weights).numpy()

    def evaluate(self, user_vectors: ArrayLike, item_vectors: ArrayLike) -> PeerMetrics:
        """Rank given final embeddings by its evaluation.

        Args:
            user_vectors: ``float[U, D]``.
            item_vectors: ``float[I, D]``.

        Returns:
            Its metrics at 20.
        """
        final = tuple(torch.from_numpy(np.array(rows)) for rows in (user_vectors, item_vectors))
        self._model.computer = lambda: final
        results = self._test(self._dataset, self._model, 0)
        return PeerMetrics(*(float(results[name][0]) for name in PeerMetrics._fields))


@contextmanager
def _arguments(*arguments: str):
    kept = sys.argv
    sys.argv = ["main.py", *arguments]
    try:
        yield
    finally:
        sys.argv = kept


def _import_from(code: Path) -> list:
    sys.path.insert(0, str(code))
    try:
        return [importlib.import_module(name) for name in _MODULES]
    finally:
        sys.path.remove(str(code))


def _check_same_data(dataset, workload: Workload) -> None:
    """Refuse a checkout whose ids are not our rows or whose pairs are not ours."""
    split = workload.split
    for name, ids in (("users", split.users), ("items", split.items)):
        if not np.array_equal(ids.external(np.arange(len(ids))), np.arange(len(ids))):
            raise InputError(f"{name}: expected ids from 0 without gaps, as LightGCN-PyTorch does")
    ours = [(split.train.users, split.train.items), (split.test.users, split.test.items)]
    theirs = [(dataset.trainUser, dataset.trainItem), (dataset.testUser, dataset.testItem)]
    for part, one, other in zip(("train", "test"), ours, theirs, strict=True):
        if not np.array_equal(_sorted_keys(*one), _sorted_keys(*other)):
            raise InputError(f"gowalla: the checkout's {part} pairs are not those of the data set")


def _sorted_keys(users: np.ndarray, items: np.ndarray) -> np.ndarray:
    return np.sort(users.astype(np.int64) << 32 | items.astype(np.int64))
