"""What a model without epochs is: fitted in one go, and made again from the arrays it keeps."""

from __future__ import annotations

import abc
from collections.abc import Mapping
from typing import Any, ClassVar

from lightgcn_jax.arrays import Array, PRNGKey
from lightgcn_jax.evaluation.scorer import Scorer
from lightgcn_jax.fields import Checked
from lightgcn_jax.graph.bipartite import BipartiteGraph

Tensors = Mapping[str, Array]
"""A scorer's arrays by name."""


class ClosedForm(Checked, abc.ABC):
    """A model that is fitted without epochs; each is a frozen dataclass of its own settings.

    Attributes:
        tensors: names of the scorer's arrays that a run keeps; all else comes from the run's pairs
            and settings.
        has_embeddings: whether the scorer has a vector for each user and item.
        uses_key: whether two keys give two models.
        uses_operator: whether the fit, or the scorer, applies an operator whose storage can be
            chosen.
    """

    tensors: ClassVar[tuple[str, ...]] = ()
    has_embeddings: ClassVar[bool] = False
    uses_key: ClassVar[bool] = False
    uses_operator: ClassVar[bool] = True

    @abc.abstractmethod
    def fit(self, graph: BipartiteGraph, key: PRNGKey, backend: Any = "auto") -> Scorer:
        """What ranks.

        Args:
            graph: the training interactions.
            key: randomness of the fit.
            backend: storage of the operator, for a model that applies one.
        """

    def rebuilt(
        self, tensors: Tensors, graph: BipartiteGraph, key: PRNGKey, backend: Any = "auto"
    ) -> Scorer:
        """The scorer that :meth:`fit` returned, made again from the arrays that were kept.

        Args:
            tensors: by the names of :attr:`tensors`.
            graph: as in :meth:`fit`.
            key: as in :meth:`fit`.
            backend: as in :meth:`fit`.

        Raises:
            InputError: an array has another type or shape, or holds rows that there are not.
        """
        del tensors
        return self.fit(graph, key, backend)
