"""Diffusion by C++ kernels of our own, called from compiled programs on CPU."""

from lightgcn_jax.diffusion.native.gathered import gathered_sums, scattered_sums
from lightgcn_jax.diffusion.native.largest import (
    largest_of_columns,
    largest_products,
    multiplies,
)
from lightgcn_jax.diffusion.native.library import are_compiled, on_platform, runs_by_default
from lightgcn_jax.diffusion.native.ngcf import NgcfLayer, ngcf_layer, ngcf_layer_gradient
from lightgcn_jax.diffusion.native.softmax import LogSumTerms, log_sums
from lightgcn_jax.diffusion.native.storage import NativeStorage
from lightgcn_jax.diffusion.native.tall import tall_product

__all__ = [
    "LogSumTerms",
    "NativeStorage",
    "NgcfLayer",
    "are_compiled",
    "gathered_sums",
    "largest_of_columns",
    "largest_products",
    "log_sums",
    "multiplies",
    "ngcf_layer",
    "ngcf_layer_gradient",
    "on_platform",
    "runs_by_default",
    "scattered_sums",
    "tall_product",
]
