"""Values that came from outside, held against the JSON schemas that the service publishes.

Only what those schemas use is known here: it is small, and says in a sentence what does not fit.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from lightgcn_jax.errors import InputError

Schema = Mapping[str, Any]
_REFERENCE = "#/components/schemas/"
_KINDS = {
    "object": (Mapping, "an object"),
    "array": (list, "an array"),
    "string": (str, "a string"),
    "integer": (int, "a whole number"),
    "number": ((int, float), "a number"),
    "boolean": (bool, "true or false"),
    "null": (type(None), "null"),
}
_SHOWN = 60


class Schemas:
    """Named schemas, to which others refer.

    Args:
        named: the schemas.
    """

    def __init__(self, named: Mapping[str, Schema]):
        self._named = named

    def check(self, value: Any, schema: Schema, where: str) -> None:
        """Refuse a value that is not of a schema.

        Args:
            value: a JSON value.
            schema: what it must be.
            where: what an error calls it.

        Raises:
            InputError: it is something else.
        """
        if reference := schema.get("$ref"):
            schema = self._named[reference.removeprefix(_REFERENCE)]
        if choices := schema.get("oneOf"):
            self._check_choices(value, choices, where)
            return
        kinds = schema.get("type")
        if kinds is None:
            return
        kinds = [kinds] if isinstance(kinds, str) else kinds
        kind = next((one for one in kinds if _is(value, one)), None)
        if kind is None:
            expected = " or ".join(_KINDS[one][1] for one in kinds)
            raise InputError(f"{where}: expected {expected}, got {_shown(value)}")
        checks = {
            "string": self._check_string,
            "integer": self._check_number,
            "number": self._check_number,
            "array": self._check_array,
            "object": self._check_object,
        }
        if kind in checks:
            checks[kind](value, schema, where)

    def _check_choices(self, value: Any, choices: list[Schema], where: str) -> None:
        said = []
        for choice in choices:
            try:
                return self.check(value, choice, where)
            except InputError as error:
                fits = any(_is(value, one) for one in [choice.get("type")] if one)
                said.append((fits, str(error)))
        # That of the right type says what is wrong; otherwise none has it.
        fitting = [one for fits, one in said if fits]
        if fitting:
            raise InputError(fitting[0])
        expected = " or ".join(_KINDS[one["type"]][1] for one in choices)
        raise InputError(f"{where}: expected {expected}, got {_shown(value)}")

    def _check_string(self, value: str, schema: Schema, where: str) -> None:
        least, most = schema.get("minLength", 0), schema.get("maxLength")
        if len(value) < least or (most is not None and len(value) > most):
            raise InputError(f"{where}: expected {least} to {most} characters, got {len(value):,}")
        if (choices := schema.get("enum")) and value not in choices:
            raise InputError(f"{where}: expected one of {', '.join(choices)}, got {_shown(value)}")
        if any("\ud800" <= sign <= "\udfff" for sign in value):
            raise InputError(f"{where}: expected Unicode text, got half of a pair of surrogates")

    def _check_number(self, value: float, schema: Schema, where: str) -> None:
        least, most = schema.get("minimum"), schema.get("maximum")
        if (least is not None and value < least) or (most is not None and value > most):
            raise InputError(f"{where}: expected {least} to {most}, got {_shown(value)}")

    def _check_array(self, value: list[Any], schema: Schema, where: str) -> None:
        least, most = schema.get("minItems", 0), schema.get("maxItems")
        if len(value) < least or (most is not None and len(value) > most):
            raise InputError(f"{where}: expected {least} to {most} entries, got {len(value):,}")
        for at, one in enumerate(value):
            self.check(one, schema.get("items", {}), f"{where}[{at}]")

    def _check_object(self, value: Mapping[str, Any], schema: Schema, where: str) -> None:
        properties = schema.get("properties", {})
        missing = [name for name in schema.get("required", ()) if name not in value]
        if missing:
            raise InputError(f"{where}: expected {', '.join(missing)}, which it lacks")
        others = schema.get("additionalProperties", True)
        for name, one in value.items():
            inner = f"{where}.{_name(name)}" if where else _name(name)
            if name in properties:
                self.check(one, properties[name], inner)
            elif others is False:
                known = ", ".join(properties) or "nothing"
                raise InputError(f"{inner}: expected one of {known}")
            elif others is not True:
                self.check(one, others, inner)


def parsed(text: bytes) -> Any:
    """JSON that came from outside.

    Args:
        text: UTF-8.

    Raises:
        InputError: it is no JSON.
    """
    try:
        return json.loads(text, parse_constant=_no_constant, parse_float=_number)
    except RecursionError:
        raise InputError("body: expected JSON, got values nested too deep") from None
    except ValueError as error:  # no UTF-8, no JSON, a number of thousands of digits
        raise InputError(f"body: expected JSON, got {str(error)[:200]}") from None


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name}, which JSON lacks")


def _number(text: str) -> int | float:
    """3.0 is a whole number in JSON, which knows one kind of numbers."""
    number = float(text)
    return int(number) if number.is_integer() else number


def _is(value: Any, kind: str) -> bool:
    if kind in ("integer", "number") and isinstance(value, bool):
        return False
    return isinstance(value, _KINDS[kind][0])


def _shown(value: Any) -> str:
    text = ascii(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"


def _name(name: str) -> str:
    return name if name.isidentifier() and len(name) <= _SHOWN else _shown(name)
