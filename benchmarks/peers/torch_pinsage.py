"""PinSAGE's training step in PyTorch: the same encoder on the same neighbours, a peer of ours.

It is written the way PyTorch likes it: ``torch.unique`` gives each node of a layer once,
``embedding_bag`` gathers, weighs and adds neighbours in one fused call, gradients come from
autograd, and Adam is fused. It draws its own negatives, and the items that lose their contexts, as
ours does. Two settings of it exist: the paper's loss of cosines without structure, and the default.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import jax
import numpy as np
import torch
from torch import nn
from torch.nn import functional

from pinsage_jax.config import PinSageConfig
from pinsage_jax.encoder.pinsage import STRUCTURE
from pinsage_jax.features.schema import LOG_DEGREE
from pinsage_jax.training.batch import ItemArrays

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
        structure: how many of the last inputs are the structure, which z then holds as well; 0
            makes z of length 1 instead.
        of_none: ``float32[w]``, what an item without contexts has in place of its own inputs, NaN
            where it keeps them.
    """

    def __init__(
        self,
        features: np.ndarray,
        ids: np.ndarray,
        weights: np.ndarray,
        dim: int,
        layers: int,
        *,
        structure: int = 0,
        of_none: np.ndarray | None = None,
    ):
        super().__init__()
        self.features = torch.from_numpy(np.array(features))
        self.structure = structure
        given = np.full(features.shape[1], np.nan) if of_none is None else of_none
        self.replaced = torch.from_numpy(~np.isnan(given))
        self.of_none = torch.from_numpy(np.nan_to_num(given).astype(np.float32))
        self.ids = torch.from_numpy(np.maximum(ids, 0).astype(np.int64))
        self.weights = torch.from_numpy(np.array(weights))
        self.encode = nn.Linear(features.shape[1], dim)
        self.message = nn.ModuleList(nn.Linear(dim, dim) for _ in range(layers))
        self.combine = nn.ModuleList(nn.Linear(2 * dim, dim) for _ in range(layers))
        self.hidden = nn.Linear(dim, dim)
        self.out = nn.Linear(dim, dim, bias=False)
        self.gain = nn.Parameter(torch.zeros(())) if structure else None

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
            if self.gain is not None:
                self.gain.copy_(_tensor(params["structure_gain"]))
            for name, layer in pairs.items():
                layer.weight.copy_(_tensor(params[name]["kernel"]).T)
                layer.bias.copy_(_tensor(params[name]["bias"]))

    def forward(self, targets: torch.Tensor, lost: torch.Tensor | None = None) -> torch.Tensor:
        """Embed items.

        Args:
            targets: ``int64[n]`` rows, in any order, with repetitions.
            lost: ``bool[I]``, items that have no contexts in this step.

        Returns:
            z of each, ``float[n, D]``, with the structure ``float[n, D + structure]``.
        """
        rows, inverse = torch.unique(targets, return_inverse=True)
        layers = [rows]
        for _ in self.message:
            top = layers[-1]
            seen = top if lost is None else top[~lost[top]]
            layers.append(torch.unique(torch.cat([top, self.ids[seen].reshape(-1)])))
        place = torch.zeros(len(self.ids), dtype=torch.int64)
        nodes = layers.pop()
        h = self.encode(self._inputs(nodes, lost))
        for message, combine in zip(self.message, self.combine, strict=True):
            # A neighbour that only a lost item has may not be in the layer; it weighs 0 anywhere.
            place.zero_()
            place[nodes] = torch.arange(len(nodes))
            nodes = layers.pop()
            weights = self.weights[nodes]
            if lost is not None:
                weights = weights * ~lost[nodes][:, None]
            pooled = functional.embedding_bag(
                place[self.ids[nodes]],
                functional.relu(message(h)),
                mode="sum",
                per_sample_weights=weights,
            )
            h = unit(functional.relu(combine(torch.cat([h[place[nodes]], pooled], dim=1))))
        z = self.out(functional.relu(self.hidden(h)))
        if self.gain is None:
            return unit(z)[inverse]
        structure = self._inputs(nodes, lost)[:, -self.structure :]
        return torch.cat([z, self.gain * structure], dim=1)[inverse]

    def _inputs(self, nodes: torch.Tensor, lost: torch.Tensor | None) -> torch.Tensor:
        inputs = self.features[nodes]
        if lost is None:
            return inputs
        return torch.where(lost[nodes][:, None] & self.replaced, self.of_none, inputs)


class Trainer:
    """Adam on a loss over shared negatives.

    Args:
        model: its parameters are changed in place.
        learning_rate: Adam's rate.
        margin: by which a positive must score above a negative; None takes the softmax over the
            positive and the negatives.
        drop_contexts: the share of items that lose their contexts in a step.
    """

    def __init__(
        self,
        model: TorchPinSage,
        *,
        learning_rate: float,
        margin: float | None,
        drop_contexts: float = 0.0,
    ):
        self.model, self.margin, self.drop_contexts = model, margin, drop_contexts
        self._adam = torch.optim.Adam(model.parameters(), lr=learning_rate, fused=True)

    def loss(
        self,
        queries: torch.Tensor,
        positives: torch.Tensor,
        negatives: torch.Tensor,
        lost: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """The loss of a batch: the mean over its rows.

        Args:
            queries: ``int64[B]`` rows.
            positives: ``int64[B]`` rows.
            negatives: ``int64[M]`` rows, shared; one that is a row's query or positive does not
                count for it.
            lost: ``bool[I]``, items that have no contexts in this step.

        Returns:
            The loss, ``float[]``.
        """
        sizes = [len(queries), len(positives), len(negatives)]
        vectors = self.model(torch.cat([queries, positives, negatives]), lost)
        q, p, n = torch.split(vectors, sizes)
        positive = (q * p).sum(dim=1, keepdim=True)
        valid = (negatives != queries[:, None]) & (negatives != positives[:, None])
        if self.margin is None:
            others = (q @ n.T - positive).masked_fill(~valid, -torch.inf)
            return torch.logsumexp(functional.pad(others, (1, 0)), dim=1).mean()
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
        lost = None
        if self.drop_contexts:
            lost = torch.rand(len(self.model.ids)) < self.drop_contexts
        loss = self.loss(_rows(queries), _rows(positives), drawn, lost)
        loss.backward()
        self._adam.step()
        return loss.item()


def trainer_of(
    config: PinSageConfig, features: Mapping[str, np.ndarray], items: ItemArrays, params: Any
) -> Trainer:
    """Make the peer of our step under some settings, from our parameters.

    Args:
        config: max-margin on vectors of length 1, or softmax with structure; shared negatives.
        features: ``float32[I, w]`` by input, in the order in which the encoder adds them.
        items: what our step reads; the neighbours are of interest.
        params: our encoder's.
    """
    without_contexts = {LOG_DEGREE: items.degree_of_none, STRUCTURE: 0.0}
    of_none = [
        np.full(values.shape[1], without_contexts.get(name, np.nan), np.float32)
        for name, values in features.items()
    ]
    model = TorchPinSage(
        np.concatenate([*features.values()], axis=1),
        np.asarray(items.table.ids),
        np.asarray(items.table.weights),
        config.dim,
        config.layers,
        structure=config.structure,
        of_none=np.concatenate(of_none),
    )
    model.load(jax.tree.map(np.asarray, params), [*features])
    return Trainer(
        model,
        learning_rate=config.learning_rate,
        margin=config.margin if config.loss == "max-margin" else None,
        drop_contexts=config.drop_contexts,
    )


def _tensor(array: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(np.array(array))


def _rows(rows: np.ndarray) -> torch.Tensor:
    return torch.from_numpy(rows.astype(np.int64))
