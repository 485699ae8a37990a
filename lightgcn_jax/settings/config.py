"""Settings of a run."""

from __future__ import annotations

import dataclasses
from typing import Any

from lightgcn_jax.data.protocol import Protocol
from lightgcn_jax.diffusion.choice import Backend, OrderingChoice
from lightgcn_jax.graph.normalization import Normalization
from lightgcn_jax.models.gnn import Aggregate, Combine
from lightgcn_jax.models.heads import ScoreName
from lightgcn_jax.models.lightgcn import LayerCombination
from lightgcn_jax.settings.choices import (
    Loss,
    NegativeSampler,
    NegativeSharing,
    Sampling,
    Schedule,
)
from lightgcn_jax.settings.models import MODELS, ModelName
from lightgcn_jax.settings.validation import check
from lightgcn_jax.training.forms import TrainedForm


@dataclasses.dataclass(frozen=True)
class TrainConfig:
    """Everything that decides a run, but the data.

    A model reads some of the settings; those that it does not read keep their defaults.

    Attributes:
        model: trained: `mf` (matrix factorisation), `gcn`, `sgc` (its linearisation), `ngcf`,
            `gnn` (aggregate and combine of your choice), `lightgcn`. Fitted in one go, without
            epochs: `gfcf` (graph filters), `spectral` (singular vectors as embeddings), `itemcf`
            (item-based cosine), `popular` (number of users) and `random`.
        dim: dimensions D of an embedding.
        layers: applications K of the diffusion; of lightgcn, 0 is matrix factorisation.
        alphas: K + 1 layer weights of lightgcn; by default uniform, 1/(K + 1).
        learn_alphas: let lightgcn learn its layer weights, from those on.
        layer_combination: `sum` adds lightgcn's layers by their weights, `last` keeps layer K.
        normalization: of the adjacency matrix, by the degrees of both ends (`symmetric`) or of one.
        edge_dropout: share of the interactions that each training step leaves out of the graph.
        biases: give mf a bias for each user and item.
        message_dropout: share of the entries of each layer's output that ngcf drops in training.
        node_dropout: share of the nodes whose messages ngcf drops in each layer.
        aggregate: what gnn makes of the neighbours' vectors.
        combine: how gnn joins a node's vector and its neighbours': ReLU of a linear map of both
            side by side (`concat`) or added up (`add`).
        init_std: standard deviation of the initial embeddings.
        singular_vectors: kept by the low-pass filter of gfcf.
        low_pass_weight: of the low-pass filter of gfcf, beside the linear filter.
        singular_value_power: of the singular values in both tables of spectral.
        svd_iterations: block iterations of the singular value decomposition (gfcf, spectral).
        neighbours: items kept for each item by itemcf, which takes 8 bytes for each.
        score: of a user and an item, in training and in ranking: inner product, cosine, or a
            network of one hidden layer over both vectors (`mlp`).
        hidden: width of that layer.
        popularity_offset: γ; γ·log(1 + an item's training users) is added to its scores, in
            training and in ranking (inner, cosine). A cosine alone cannot say that everybody
            likes an item.
        loss: `bpr`, `binary`, `softmax` (over the positive and the negatives) or `max-margin`.
        temperature: what scores are divided by in the loss; not in max-margin.
        margin: by which max-margin wants the positive above a negative.
        sampling_correction: weigh softmax's negatives by how likely they were drawn, so that they
            stand for all items.
        negative_sampler: `uniform`; `popularity`, in proportion to a power of an item's users;
            `in-batch`, the positives of the batch; `hard`, those of a shared uniform pool with the
            highest score; `all` items, for small catalogues.
        negatives: negatives of a row, or shared by a whole batch.
        negative_sharing: `shared` draws one set for the batch, `per-user` one set for each row.
        popularity_power: of an item's number of users, for the sampler popularity.
        hard_pool: items in the pool of the sampler hard.
        reject_seen: never take a user's training items for negatives.
        epochs: epochs at most; an epoch draws as many rows as there are training interactions.
        batch_size: rows B of a mini-batch.
        sampling: `interactions` takes each training interaction once an epoch, shuffled; `users`
            draws users uniformly with replacement and one positive each.
        learning_rate: of Adam, at the start of the schedule.
        schedule: of the learning rate: `constant`, `cosine` (to 0), `linear` (to 0) or
            `exponential` (to 1/100).
        schedule_epochs: epochs over which the schedule runs; 0 for those of the run.
        warmup_epochs: epochs over which the learning rate rises linearly from 0.
        l2: λ, on the layer-0 embeddings of the batch.
        protocol: `strict` selects the epoch on validation and ranks test once; `legacy` trains on
            train and validation and selects on test, for comparison with papers; `fixed` trains on
            train and validation for all epochs, selects nothing and ranks test once. A closed form
            selects nothing.
        select_by: metric that chooses the best epoch.
        ks: cut-offs of the metrics.
        evaluate_every: epochs between evaluations.
        patience: evaluations without improvement before stopping; 0 never stops early.
        seed: of initial embeddings and sampling; with several seeds, the first of them.
        seeds: runs trained at once, with seeds seed, seed + 1, …
        checkpoint_seconds: seconds that pass at least between two checkpoints; 0 writes one after
            every chunk of steps.
        backend: storage of the diffusion operator; `auto` takes the fastest of the platform.
        ordering: of the nodes inside the operator, for locality; the result is the same but for
            rounding. `auto` co-clusters large graphs on CPU.
    """

    model: ModelName = "lightgcn"
    dim: int = 64
    layers: int = 3
    alphas: tuple[float, ...] | None = None
    learn_alphas: bool = False
    layer_combination: LayerCombination = "sum"
    normalization: Normalization = "symmetric"
    edge_dropout: float = 0.0
    biases: bool = False
    message_dropout: float = 0.0
    node_dropout: float = 0.0
    aggregate: Aggregate = "mean"
    combine: Combine = "concat"
    init_std: float = 0.1
    singular_vectors: int = 256
    low_pass_weight: float = 0.3
    singular_value_power: float = 0.5
    svd_iterations: int = 4
    neighbours: int = 500
    score: ScoreName = "inner"
    hidden: int = 64
    popularity_offset: float = 0.0
    loss: Loss = "bpr"
    temperature: float = 1.0
    margin: float = 1.0
    sampling_correction: bool = False
    negative_sampler: NegativeSampler = "uniform"
    negatives: int = 256
    negative_sharing: NegativeSharing = "shared"
    popularity_power: float = 0.75
    hard_pool: int = 1024
    reject_seen: bool = True
    epochs: int = 100
    batch_size: int = 2048
    sampling: Sampling = "interactions"
    learning_rate: float = 5e-3
    schedule: Schedule = "constant"
    schedule_epochs: int = 0
    warmup_epochs: float = 0.0
    l2: float = 1e-4
    protocol: Protocol = "strict"
    select_by: str = "recall@20"
    ks: tuple[int, ...] = (10, 20, 50)
    evaluate_every: int = 5
    patience: int = 5
    seed: int = 0
    seeds: int = 1
    checkpoint_seconds: float = 60.0
    backend: Backend = "auto"
    ordering: OrderingChoice = "auto"

    def __post_init__(self):
        check(self)

    @property
    def form(self) -> TrainedForm:
        """How the model is trained; it must not be one that is fitted in one go."""
        form = MODELS[self.model].form
        assert isinstance(form, TrainedForm)
        return form

    @property
    def shape(self) -> Any:
        """The settings that a trained model itself reads, in its own terms."""
        return self.form.shape(self)

    @property
    def offset_columns(self) -> int:
        """The last columns of the run's vectors that only add to scores: 2 for biases, 1 for the
        popularity offset."""
        return 2 * self.biases + (self.popularity_offset > 0)

    @property
    def is_trained(self) -> bool:
        """Whether the model is trained epoch by epoch, not fitted in closed form."""
        return MODELS[self.model].is_trained
