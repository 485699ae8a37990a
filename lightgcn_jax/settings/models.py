"""Every model by its name: the settings that it reads, and how it is made. One entry a model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Literal, NamedTuple

from lightgcn_jax.arrays import Array, PRNGKey
from lightgcn_jax.diffusion.operator import interaction_operator
from lightgcn_jax.evaluation.scorer import InnerProduct, Scorer
from lightgcn_jax.graph.bipartite import BipartiteGraph
from lightgcn_jax.models import gfcf, itemcf, spectral
from lightgcn_jax.models.gfcf import GfCf, GfCfConfig
from lightgcn_jax.models.itemcf import ItemCf, ItemCfConfig
from lightgcn_jax.models.spectral import SpectralConfig
from lightgcn_jax.models.trivial import Popular, Random
from lightgcn_jax.training.forms import TRAINED, TrainedForm

if TYPE_CHECKING:
    from lightgcn_jax.settings.config import TrainConfig

ModelName = Literal[
    "mf", "gcn", "sgc", "ngcf", "gnn", "lightgcn", "gfcf", "spectral", "itemcf", "popular", "random"
]


class ClosedForm(NamedTuple):
    """How a model without epochs is made.

    Attributes:
        fit: from the training interactions, the settings and a key to what ranks.
        tensors: names of the scorer's arrays that a run keeps; all else comes from the run's pairs
            and settings.
        rebuilt: from those arrays, by name, and what :attr:`fit` takes to the same scorer.
    """

    fit: Callable[[BipartiteGraph, TrainConfig, PRNGKey], Scorer]
    tensors: tuple[str, ...]
    rebuilt: Callable[[Mapping[str, Array], BipartiteGraph, TrainConfig, PRNGKey], Scorer]


class Model(NamedTuple):
    """An entry.

    Attributes:
        settings: the fields of ``TrainConfig`` that it reads, beside those that all models read.
        form: how it is fitted in one go, or how the loop trains it.
        has_embeddings: whether it has a vector for each user and item.
    """

    settings: frozenset[str]
    form: ClosedForm | TrainedForm
    has_embeddings: bool

    @property
    def is_trained(self) -> bool:
        """Whether the loop trains it, epoch by epoch."""
        return isinstance(self.form, TrainedForm)

    @property
    def closed_form(self) -> ClosedForm | None:
        """None for a model that is trained by the loop."""
        return self.form if isinstance(self.form, ClosedForm) else None


COMMON = frozenset({"model", "protocol", "ks", "seed"})
"""Settings that every model reads."""

TRAINING = frozenset(
    {
        "dim", "init_std", "score", "hidden", "popularity_offset", "loss", "temperature", "margin",
        "sampling_correction", "negative_sampler", "negatives", "negative_sharing",
        "popularity_power", "hard_pool", "reject_seen", "epochs", "batch_size", "sampling",
        "learning_rate", "schedule", "schedule_epochs", "warmup_epochs", "l2", "select_by",
        "evaluate_every", "patience", "seeds", "checkpoint_seconds",
    }
)  # fmt: skip
"""Settings that every trained model reads."""


def _fit_gfcf(graph: BipartiteGraph, config: TrainConfig, key: PRNGKey) -> GfCf:
    shape = GfCfConfig(
        rank=config.singular_vectors,
        weight=config.low_pass_weight,
        iterations=config.svd_iterations,
    )
    return gfcf.fit(graph, shape, key, backend=config.backend)


def _rebuilt_gfcf(
    tensors: Mapping[str, Array], graph: BipartiteGraph, config: TrainConfig, _: PRNGKey
) -> GfCf:
    return GfCf(
        operator=interaction_operator(graph, backend=config.backend),
        interactions=graph.items_of_user,
        weight=config.low_pass_weight,
        **tensors,
    )


def _fit_spectral(graph: BipartiteGraph, config: TrainConfig, key: PRNGKey) -> InnerProduct:
    shape = SpectralConfig(
        dim=config.dim, power=config.singular_value_power, iterations=config.svd_iterations
    )
    return InnerProduct(*spectral.fit(graph, shape, key, backend=config.backend))


def _fit_itemcf(graph: BipartiteGraph, config: TrainConfig, _: PRNGKey) -> ItemCf:
    return ItemCf.of(itemcf.fit(graph, ItemCfConfig(config.neighbours)), graph)


def _trained(name: str, *settings: str) -> Model:
    return Model(TRAINING | set(settings), TRAINED[name], True)


_OPERATOR = ("layers", "backend", "ordering")

MODELS: dict[str, Model] = {
    "mf": _trained("mf", "biases"),
    "gcn": _trained("gcn", *_OPERATOR, "normalization", "edge_dropout"),
    "sgc": _trained("sgc", *_OPERATOR, "normalization", "edge_dropout"),
    "ngcf": _trained("ngcf", *_OPERATOR, "message_dropout", "node_dropout"),
    "gnn": _trained("gnn", *_OPERATOR, "aggregate", "combine"),
    "lightgcn": _trained(
        "lightgcn",
        *_OPERATOR,
        *("alphas", "learn_alphas", "layer_combination", "normalization", "edge_dropout"),
    ),
    "gfcf": Model(
        frozenset({"singular_vectors", "low_pass_weight", "svd_iterations", "seeds", "backend"}),
        ClosedForm(_fit_gfcf, ("vectors", "users", "item_roots"), _rebuilt_gfcf),
        True,
    ),
    "spectral": Model(
        frozenset({"dim", "singular_value_power", "svd_iterations", "seeds", "backend"}),
        ClosedForm(
            _fit_spectral, ("queries", "items"), lambda tensors, *_: InnerProduct(**tensors)
        ),
        True,
    ),
    "itemcf": Model(
        frozenset({"neighbours"}),
        ClosedForm(
            _fit_itemcf,
            ("neighbours", "cosines"),
            lambda tensors, graph, *_: ItemCf(items_of_user=graph.items_of_user, **tensors),
        ),
        False,
    ),
    "popular": Model(
        frozenset(),
        ClosedForm(
            lambda graph, *_: Popular.of(graph), (), lambda _, graph, *__: Popular.of(graph)
        ),
        False,
    ),
    "random": Model(
        frozenset({"seeds"}),
        ClosedForm(
            lambda graph, _, key: Random.of(graph, key),
            (),
            lambda _, graph, __, key: Random.of(graph, key),
        ),
        False,
    ),
}


def reads(model: str, setting: str) -> bool:
    """Whether a setting means something to a model."""
    return setting in COMMON or setting in MODELS[model].settings


def misplaced(model: str, setting: str) -> str:
    """What is wrong with giving a model a setting that it does not read."""
    readers = ", ".join(name for name in MODELS if reads(name, setting))
    return f"a setting of {readers}, which {model} does not read; leave it out"


def with_embeddings() -> str:
    """The names of the models that have embeddings, for messages."""
    return ", ".join(name for name, model in MODELS.items() if model.has_embeddings)
