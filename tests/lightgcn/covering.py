"""Which combinations of parameters are in the fast suite."""

import itertools

import pytest


def covering(*choices):
    """All combinations as parameters of a test: in the fast suite every value of a parameter meets
    every value of each other one, in the slow suite stands the rest.

    Args:
        choices: values by the names that tests show, of two parameters, and of a third that has no
            more values than either.
    """
    count = len(choices[2])
    return [
        pytest.param(
            *(values[name] for values, name in zip(choices, names, strict=True)),
            id="-".join(names),
            marks=() if (first + second) % count == third else pytest.mark.slow,
        )
        for (first, second, third), names in zip(
            itertools.product(*(range(len(values)) for values in choices)),
            itertools.product(*choices),
            strict=True,
        )
    ]
