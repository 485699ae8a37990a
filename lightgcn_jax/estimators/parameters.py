"""Arguments of an estimator's constructor by name, as tools around scikit-learn ask for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Self


class Parameters:
    """An object whose constructor takes everything by name, and only checks and keeps it.

    ``sklearn.base.clone`` copies such an object, without what was fitted.
    """

    def arguments(self) -> Mapping[str, Any]:
        """What the constructor was given, or would have to be given to make the same object."""
        raise NotImplementedError

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The arguments of the constructor: its own, and the settings that were given.

        Settings that nobody gave have the values of the preset, which ``config`` holds.

        Args:
            deep: not read, as no argument is an estimator.
        """
        del deep
        return dict(self.arguments())

    def set_params(self, **params: Any) -> Self:
        """Give arguments of the constructor anew; the others stay, and so does what was fitted.

        Args:
            params: by name.

        Returns:
            The object itself, unchanged where something is wrong.

        Raises:
            InputError: arguments that are unknown, or do not fit each other.
        """
        made = type(self)(**{**self.get_params(), **params})
        self.__dict__.update(made.__dict__)
        return self
