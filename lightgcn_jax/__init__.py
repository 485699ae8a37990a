"""LightGCN in JAX."""
