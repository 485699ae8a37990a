"""Diffusion by C++ kernels of our own, called from compiled programs on CPU."""

from lightgcn_jax.diffusion.native.storage import NativeStorage

__all__ = ["NativeStorage"]
