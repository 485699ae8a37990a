"""What a traced or compiled function does."""

import re

import jax


def all_equations(jaxpr):
    """Every equation that runs, those of inner programs each time they are called."""
    for eqn in jaxpr.eqns:
        yield eqn
        for parameter in eqn.params.values():
            # A condition's branches are a tuple.
            for value in parameter if isinstance(parameter, tuple) else (parameter,):
                inner = getattr(value, "jaxpr", value)
                if hasattr(inner, "eqns"):
                    yield from all_equations(inner)


def multiplies_exactly(function, *args):
    """Whether a function has matrix products, and asks for the highest precision in each."""
    equations = all_equations(jax.make_jaxpr(function)(*args).jaxpr)
    found = [one.params["precision"] for one in equations if one.primitive.name == "dot_general"]
    return bool(found) and set(found) == {(jax.lax.Precision.HIGHEST,) * 2}


def holds(compiled, operation):
    """Whether an optimised program has an operation, or a loop that XLA made of one.

    Only instructions and the operations that they came from are searched: the text also names
    Python's functions and files.
    """
    pattern = rf'(^|[\s%]){operation}\(|op_name="[^"]*/{operation}'
    return re.search(pattern, compiled.as_text()) is not None
