"""The names that settings of training are chosen from."""

from __future__ import annotations

from typing import Literal

Loss = Literal["bpr", "binary", "softmax", "max-margin"]
NegativeSampler = Literal["uniform", "popularity", "in-batch", "hard", "all"]
NegativeSharing = Literal["shared", "per-user"]
Sampling = Literal["interactions", "users"]
Schedule = Literal["constant", "cosine", "linear", "exponential"]
