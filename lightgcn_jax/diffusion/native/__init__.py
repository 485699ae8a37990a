"""Diffusion by C++ kernels of our own, called from compiled programs on CPU."""

from lightgcn_jax.diffusion.native.gathered import gathered_sums, on_platform, scattered_sums
from lightgcn_jax.diffusion.native.storage import NativeStorage

__all__ = ["NativeStorage", "gathered_sums", "on_platform", "scattered_sums"]
