"""A run of `pinsage-jax` behind HTTP: what :mod:`lightgcn_jax.service` asks of it."""
