"""Settings of a PinSage run."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Literal, get_args

import jax

from lightgcn_jax.arrays import PRNGKey
from lightgcn_jax.errors import InputError
from lightgcn_jax.fields import (
    LAYERS,
    POSITIVE,
    SHARE,
    SWITCH,
    TEXT,
    at_least,
    check_fields,
    one_of,
    optional,
    several,
    whole,
)
from pinsage_jax.graph.walks import WalkConfig
from pinsage_jax.negatives.curriculum import ScheduleName
from pinsage_jax.negatives.hard import Ranking

Pooling = Literal["importance", "mean", "max", "none"]
Loss = Literal["max-margin", "bpr", "binary", "softmax"]
NegativeLaw = Literal["uniform", "degree"]
NegativeChoice = Literal["shared", "separate", "distance-weighted"]
Query = Literal["mean", "tower"]
Tables = Literal["device", "host"]
CUTOFFS = (10, 100)
"""The usual cut-offs."""
_SWITCHES = ("log_degree", "id_embedding", "mask_targets", "data_init", "unit_length", "in_batch")
# In this order: a key is that of the seed, folded with the purpose's place.
Purpose = Literal["init", "walks", "hard", "steps", "new items", "evaluation", "structure"]


@dataclasses.dataclass(frozen=True)
class PinSageConfig:
    """Everything that decides a run, except the data.

    Attributes:
        columns: feature columns to read; by default all.
        log_degree: let the encoder see the logarithm of an item's number of contexts.
        id_embedding: give each training item a learnt vector of its own. Items that come later
            have none.
        dim: D, the dimensions of every layer and of the result.
        word_dim: dimensions of the learnt vectors of words and categories.
        layers: K, the number of convolutions; 0 embeds from features alone.
        neighbors: T, the number of neighbours of an item.
        pooling: how the neighbours' messages become one: weighted by `importance`, which is their
            share of the visits, their `mean`, their `max`, or `none`, which leaves the graph out.
        walks: how many random walks start from an item.
        walk_length: how many traversals item → context → item a walk makes.
        restart: probability of going back to the start before a traversal.
        fan: how many visits a traversal counts for: so many of the context's items, at equal steps
            of its list. The paper has 1. With the default walks × length × fan = 16,000 visits, two
            draws of an item's 50 neighbours share about 80 % of their weight on a generated world,
            with 500 visits 30 %.
        structure: entries of the structural input, which tells where an item stands in the graph
            (:mod:`pinsage_jax.graph.structure`); 0 for none. The encoder reads it, and vectors
            carry it along beside what is learnt.
        folds: into how many parts the training edges are cut. The pairs of a step are made of one
            part, and what the encoder sees of the graph of all others, as held-out pairs are asked
            later. 0 trains on pairs of the walked graph itself, as do pairs that were given.
        refresh_every: epochs after which the neighbours are drawn anew; 0 for never.
        drop_contexts: share of items that lose their contexts in a training step, so that the
            encoder learns to embed an item without any.
        mask_targets: do not let a query and its positive see each other as neighbours in the step
            that trains them. They share a context, so otherwise the question holds the answer. With
            folds it does not: nothing is hidden then.
        data_init: shift and scale the initial layers so that all inputs have an equal share in the
            first one, and every unit has mean 0 and deviation 1 over a batch of items.
        unit_length: make the vectors of items and queries unit length, so that scores are cosines.
            The paper does not, and a cosine cannot tell how popular an item is; distance-weighted
            negatives need it.
        query: how a query of several items is composed: `mean` of their vectors, or a learnt
            `tower` on it.
        loss: what training minimises: `softmax` (cross-entropy over the positive and its
            negatives), `max-margin` (the paper's), `bpr` or `binary` (GraphSAGE's cross-entropy of
            each single pair).
        margin: how far a positive must score above a negative to cost nothing in max-margin.
        temperature: what scores are divided by in every loss except max-margin.
        negatives: M, how many negatives are drawn for a batch.
        negative_law: how likely an item is drawn as a negative: `uniform`, or by `degree`, for
            which softmax corrects.
        negative_choice: which negatives a row is compared with: M that are `shared` by the batch, M
            of its own with `separate`, or with `distance-weighted` some of the shared ones, chosen
            so that their distances are about uniform.
        distance_weighted: how many of the shared negatives a row keeps with distance-weighted.
        in_batch: let the positives of a batch be negatives of its other pairs too; softmax corrects
            for how often an item is drawn in either way.
        hard_weight: the share of the loss that compares positives with hard negatives alone; 0
            counts these among all others, as the paper does, where six of 506 weigh 1 %.
        hard_cap: how many hard negatives a query has at most.
        curriculum: how many of them count in an epoch: `paper` (epoch − 1), `none`, `all` or
            `linear`.
        hard_band: the ranks that hard negatives come from, first and last; by default the paper's
            2000 to 5000, scaled to small catalogues.
        hard_pool: how many hard negatives are kept for each item to draw from.
        hard_ranking: what ranks hard negatives: personalised `pagerank`, or the visits of `walks`.
        hard_visits: how many visits from each item rank its hard negatives, with walks.
        batch_size: B, the number of query–positive pairs of a step.
        steps_per_epoch: how many steps an epoch has; 0 for as many as the pairs fill.
        epochs: how many epochs a run has at most.
        learning_rate: the rate of Adam when the warm-up ends.
        warmup_epochs: for how many epochs the rate rises linearly from 0.
        decay: what the rate is multiplied by in each epoch after the warm-up.
        evaluate_every: how many epochs lie between evaluations on validation.
        select_by: the metric of validation that chooses the best epoch; by default mrr.
        ks: cut-offs of the metrics; those of the default that exceed the ranked items are dropped.
        patience: evaluations without improvement after which training stops; 0 for never.
        tables: where features and neighbours lie: on the `device`, or on the `host`, which feeds
            the steps.
        seed: the seed of everything that is drawn.
    """

    columns: tuple[str, ...] | None = None
    log_degree: bool = True
    id_embedding: bool = False
    dim: int = 64
    word_dim: int = 32
    layers: int = 2
    neighbors: int = 50
    pooling: Pooling = "importance"
    walks: int = 100
    walk_length: int = 10
    restart: float = 0.15
    fan: int = 16
    structure: int = 256
    folds: int = 5
    refresh_every: int = 0
    drop_contexts: float = 0.1
    mask_targets: bool = True
    data_init: bool = True
    unit_length: bool = False
    query: Query = "mean"
    loss: Loss = "softmax"
    margin: float = 0.1
    temperature: float = 1.0
    negatives: int = 500
    negative_law: NegativeLaw = "uniform"
    negative_choice: NegativeChoice = "shared"
    distance_weighted: int = 10
    in_batch: bool = False
    hard_weight: float = 0.0
    hard_cap: int = 6
    curriculum: ScheduleName = "none"
    hard_band: tuple[int, int] | None = None
    hard_pool: int = 64
    hard_ranking: Ranking = "pagerank"
    hard_visits: int = 65_536
    batch_size: int = 1024
    steps_per_epoch: int = 0
    epochs: int = 10
    learning_rate: float = 3e-3
    warmup_epochs: float = 1.0
    decay: float = 0.8
    evaluate_every: int = 1
    select_by: str | None = None
    ks: tuple[int, ...] = CUTOFFS
    patience: int = 5
    tables: Tables = "device"
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(
            self,
            dim=whole(1),
            word_dim=whole(1),
            layers=whole(0, LAYERS),
            neighbors=whole(1),
            batch_size=whole(1),
            negatives=whole(1),
            distance_weighted=whole(1),
            hard_cap=whole(0),
            hard_pool=whole(1),
            hard_visits=whole(1),
            margin=at_least(0),
            epochs=whole(1),
            steps_per_epoch=whole(0),
            warmup_epochs=at_least(0),
            refresh_every=whole(0),
            evaluate_every=whole(1),
            patience=whole(0),
            seed=whole(0),
            learning_rate=POSITIVE,
            temperature=POSITIVE,
            decay=POSITIVE,
            drop_contexts=SHARE,
            hard_weight=SHARE,
            structure=whole(0),
            folds=whole(0),
            restart=SHARE,
            pooling=one_of(Pooling),
            loss=one_of(Loss),
            negative_law=one_of(NegativeLaw),
            negative_choice=one_of(NegativeChoice),
            hard_ranking=one_of(Ranking),
            curriculum=one_of(ScheduleName),
            query=one_of(Query),
            tables=one_of(Tables),
            columns=optional(several(TEXT, "names of columns")),
            select_by=optional(TEXT),
            hard_band=optional(several(whole(0), "two ranks")),
            ks=several(whole(1), "distinct integers of 1 or more"),
            **dict.fromkeys(_SWITCHES, SWITCH),
        )
        if not self.ks or len(set(self.ks)) < len(self.ks):
            raise InputError(f"ks: expected distinct integers of 1 or more, got {self.ks}")
        if self.metric not in metric_names(self.ks):
            raise InputError(
                f"select_by: expected one of {', '.join(metric_names(self.ks))}, "
                f"got {self.select_by!r}"
            )
        if (self.pooling == "none") != (self.layers == 0):
            raise InputError(
                f"layers: expected 0 with pooling none and at least 1 with any other, "
                f"got {self.layers} with {self.pooling}"
            )
        if self.columns is not None and len(set(self.columns)) != len(self.columns):
            raise InputError(f"columns: expected each once, got {', '.join(self.columns)}")
        if self.negative_choice == "distance-weighted" and not self.unit_length:
            raise InputError(
                "negative_choice: distance-weighted negatives are defined for vectors of length 1, "
                "expected unit_length as well"
            )
        if self.negative_choice == "distance-weighted" and self.distance_weighted > self.negatives:
            raise InputError(
                f"distance_weighted: expected at most the {self.negatives} shared negatives, "
                f"got {self.distance_weighted}"
            )
        if self.folds == 1:
            raise InputError("folds: expected 0, or 2 and more, got 1: no edge would be walked")
        if self.in_batch and self.negative_choice != "shared":
            raise InputError(
                f"in_batch: expected negative_choice shared, got {self.negative_choice}"
            )
        self.walk_config  # noqa: B018, checks the walks' settings

    @property
    def walk_config(self) -> WalkConfig:
        """The walks that give an item its neighbours."""
        return WalkConfig(self.walks, self.walk_length, self.restart, self.fan)

    @property
    def metric(self) -> str:
        """The metric of validation by which the epoch is chosen."""
        return "mrr" if self.select_by is None else self.select_by

    @property
    def uses_graph(self) -> bool:
        """Whether neighbours are read at all."""
        return self.layers > 0

    @property
    def sampling_corrected(self) -> bool:
        """Whether some items are more likely negatives than others, which softmax corrects."""
        return self.in_batch or self.negative_law != "uniform"

    @property
    def hides_targets(self) -> bool:
        """Whether a query and its positive are hidden from each other in a step."""
        return self.mask_targets and not self.folds

    @property
    def hard_negatives(self) -> int:
        """How many hard negatives of a query a step has room for."""
        return 0 if self.curriculum == "none" else self.hard_cap


PRESETS: Mapping[str, Mapping[str, Any]] = MappingProxyType(
    {
        "default": {},
        "paper": {
            "loss": "max-margin",
            "structure": 0,
            "folds": 0,
            "walks": 50,
            "fan": 1,
            "neighbors": 50,
            "drop_contexts": 0.0,
            "mask_targets": False,
            "data_init": False,
            "negatives": 500,
            "curriculum": "paper",
        },
    }
)
"""Settings by the name of a preset: the defaults, of which ``docs/pinsage.md`` says what they rest
on, and those of Ying et al. 2018, without any of our additions. The paper does not give its margin,
rates, visits and word vectors; its hard negatives' ranks are scaled to small catalogues, and its
pairs are of one context where nobody gave others."""


def metric_names(ks: Sequence[int]) -> tuple[str, ...]:
    """The metrics of held-out pairs, by name.

    Args:
        ks: their cut-offs.
    """
    return "mrr", *(f"{name}@{k}" for name in ("hit_rate", "recall", "ndcg") for k in ks)


def settings_from(config: PinSageConfig, **changes: Any) -> PinSageConfig:
    """Change some settings; pooling none sets the number of layers to 0 by itself.

    Args:
        config: the settings.
        changes: new values by name.
    """
    if changes.get("pooling") == "none":
        changes.setdefault("layers", 0)
    return dataclasses.replace(config, **changes)


def stream(config: PinSageConfig, purpose: Purpose) -> PRNGKey:
    """The key from which everything for one purpose is drawn; no two purposes share any bits.

    Args:
        config: the settings, which hold the seed.
        purpose: what is drawn.
    """
    place = get_args(Purpose).index(purpose)
    return jax.random.fold_in(jax.random.key(config.seed), place)
