"""The flag --device: where JAX computes."""

from __future__ import annotations

from typing import Any

from lightgcn_jax.errors import InputError

PLATFORMS = ("cpu", "gpu", "tpu")


def choose_device(wanted: str) -> None:
    """Have JAX compute on one platform, or on one device of the platform that it takes itself.

    Args:
        wanted: ``cpu``, ``gpu`` or ``tpu``, or the number of a device, from 0 on.

    Raises:
        InputError: it is none of these, or not here.
    """
    if wanted not in PLATFORMS and not wanted.isdecimal():
        raise InputError(
            f"--device: expected {', '.join(PLATFORMS)} or the number of a device, got {wanted!r}"
        )
    import jax  # not before a command line is found to be in order

    if wanted in PLATFORMS:
        config: Any = jax.config  # which has its options by name, and no type of them
        before = config.jax_platforms
        jax.config.update("jax_platforms", wanted)
        try:
            here = jax.devices()[0].platform
        except RuntimeError:
            here = None
        if here != wanted:
            jax.config.update("jax_platforms", before)
            found = ", ".join(sorted({one.platform for one in jax.devices()}))
            raise InputError(f"--device {wanted}: JAX finds no {wanted} here, it has: {found}")
        return
    devices = jax.devices()
    if int(wanted) >= len(devices):
        names = ", ".join(f"{place} ({one})" for place, one in enumerate(devices))
        raise InputError(f"--device {wanted}: expected one of {names}")
    jax.config.update("jax_default_device", devices[int(wanted)])
