"""PinSAGE's training step in PyTorch: the same encoder on the same neighbours, a peer of ours.

It is written the way PyTorch likes it: ``torch.unique`` gives each node of a layer once,
``embedding_bag`` gathers, weighs and adds neighbours in one fused call, gradients come from
autograd, and Adam is fused. It draws its own negatives, as ours does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.nn import functional

_EPSILON = 1e-12


def unit(vectors: torch.Tensor) -> torch.Tensor:
    """Divide vectors by their lengths.

    Args:
        vectors: ``float[…, D]``.

    Returns:
        Vectors of length 1; a vector of zeros stays.
    """
    return vectors / torch.sqrt(vectors.square().sum(dim=-1, keepdim=True) + _EPSILON)


class TorchPinSage(nn.Module):
    """The encoder with dense inputs and importance pooling.

    Args:
        features: ``float32[I, w]``, all inputs side by side.
        ids: ``int32[I, T]`` neighbours, −1 pads.
        weights: ``float32[I, T]``, 0 for padding.
        dim: D.
        layers: K.
    """

    def __init__(
        self, features: np.ndarray, ids: np.ndarray, weights: np.ndarray, dim: int, layers: int
    ):
        super().__init__()
        self.features = torch.from_numpy(np.array(features))
        self.ids = torch.from_numpy(np.maximum(ids, 0).astype(np.int64))
        self.weights = torch.from_numpy(np.array(weights))
        self.encode = nn.Linear(features.shape[1], dim)
        self.message = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))
        self.combine = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(layers))
        self.hidden = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim, bias=False)

    def load(self, params: Mapping[str, Any], inputs: Sequence[str]) -> None:
        """Take over the parameters of our encoder.

        Args:
            params: ours, by name.
            inputs: names of the inputs, in the order in which ``features`` has them.
        """
        maps = [params[f"map_{name}"]["kernel"] for name in inputs]
        pairs = {
            "hidden": self.hidden,
            **{f"message_{k}": layer for k, layer in enumerate(self.message)},
            **{f"combine_{k}": layer for k, layer in enumerate(self.combine)},
        }
        with torch.no_grad():
            self.encode.weight.copy_(_tensor(np.concatenate(maps)).T)
            self.encode.bias.copy_(_tensor(params["bias"]))
            self.out.weight.copy_(_tensor(params["out"]["kernel"]).T)
            for name, layer in pairs.items():
                layer.weight.copy_(_tensor(params[name]["kernel"]).T)
                layer.bias.copy_(_tensor(params[name]["bias"]))

    def forward(self, targets: torch.Tensor) -> torch.Tensor:
        """Embed items.

        Args:
            targets: ``int64[n]`` rows, in any order, with repetitions.

        Returns:
            z of each, ``float[n, D]``.
        """
        rows, inverse = torch.unique(targets, return_inverse=True)
        layers = [rows]
        for _ in self.message:
            layers.append(torch.unique(torch.cat([layers[-1], self.ids[layers[-1]].reshape(-1)])))
        place = torch.empty(len(self.ids), dtype=torch.int64)
        nodes = layers.pop()
        h = self.encode(self.features[nodes])
        for message, combine in zip(self.message, self.combine, strict=True):
            place[nodes] = torch.arange(len(nodes))
            nodes = layers.pop()
            pooled = functional.embedding_bag(
                place[self.ids[nodes]],
                functional.relu(message(h)),
                mode="sum",
                per_sample_weights=self.weights[nodes],
            )
            h = unit(functional.relu(combine(torch.cat([h[place[nodes]], pooled], dim=1))))
        return unit(self.out(functional.relu(self.hidden(h))))[inverse]


class Trainer:
    """Adam on the max-margin loss over shared negatives.

    Args:
        model: its parameters are changed in place.
        learning_rate: Adam's rate.
        margin: by which a positive must score above a negative.
    """

    def __init__(self, model: TorchPinSage, *, learning_rate: float, margin: float):
        self.model, self.margin = model, margin
        self._adam = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)

    def loss(
        self, queries: torch.Tensor, positives: torch.Tensor, negatives: torch.Tensor
    ) -> torch.Tensor:
        """The loss of a batch: the mean over rows of the mean over the negatives that count.

        Args:
            queries: ``int64[B]`` rows.
            positives: ``int64[B]`` rows.
            negatives: ``int64[M]`` rows, shared; one that is a row's query or positive does not
                count for it.

        Returns:
            The loss, ``float[]``.
        """
        sizes = [len(queries), len(positives), len(negatives)]
        vectors = self.model(torch.cat([queries, positives, negatives]))
        q, p, n = torch.split(vectors, sizes)
        positive = (q * p).sum(dim=1, keepdim=True)
        valid = (negatives != queries[:, None]) & (negatives != positives[:, None])
        hinge = functional.relu(q @ n.T - positive + self.margin) * valid
        return (hinge.sum(dim=1) / valid.sum(dim=1)).mean()

    def step(self, queries: np.ndarray, positives: np.ndarray, negatives: int) -> float:
        """Draw negatives and take one step.

        Args:
            queries: ``int[B]`` rows.
            positives: ``int[B]`` rows.
            negatives: M, how many are drawn uniformly from all items.

        Returns:
            The loss before the step.
        """
        drawn = torch.randint(len(self.model.ids), (negatives,))
        self._adam.zero_grad()
        loss = self.loss(_rows(queries), _rows(positives), drawn)
        loss.backward()
        self._adam.step()
        return loss.item()


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _rows(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rows.astype(np.int64))
