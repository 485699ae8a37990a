"""Hashes of integers, of which random bits are made and by which equal counts are ordered.

Everything is written with operators that NumPy and JAX share, so the host and the device agree.
"""

from __future__ import annotations

from typing import Any

import numpy as np

_LOW = np.uint32(0x7FFFFFFF)
# Odd numbers have an inverse modulo 2³¹.
_FIRST, _SECOND = 0x7FEB352D, 0x046CA68B
_FIRST_INVERSE, _SECOND_INVERSE = (pow(factor, -1, 2**31) for factor in (_FIRST, _SECOND))


def hashed(words: Any) -> Any:
    """A bijection of 32-bit words whose every output bit depends on every input bit (lowbias32).

    Args:
        words: ``uint32``, any shape.

    References:
        C. Wellons, "Prospecting for hash functions" (2018).
    """
    words = (words ^ (words >> 16)) * np.uint32(0x7FEB352D)
    words = (words ^ (words >> 15)) * np.uint32(0x846CA68B)
    return words ^ (words >> 16)


def scrambled(ids: Any, salt: Any) -> Any:
    """A bijection of the numbers below 2³¹, another one for every salt.

    Which of two ids comes out smaller is decided by the salt alone: over all salts each of them
    does for half. So equal counts can be ordered without favour, and :func:`unscrambled` gives the
    ids back.

    Args:
        ids: ``uint32`` below 2³¹.
        salt: ``uint32`` below 2³¹, broadcast against the ids.
    """
    words = ids ^ salt
    words = ((words ^ (words >> 16)) * np.uint32(_FIRST)) & _LOW
    words = ((words ^ (words >> 15)) * np.uint32(_SECOND)) & _LOW
    return words ^ (words >> 16)


def unscrambled(words: Any, salt: Any) -> Any:
    """The ids that :func:`scrambled` gives ``words`` for.

    Args:
        words: ``uint32`` below 2³¹.
        salt: ``uint32`` below 2³¹, broadcast against the words.
    """
    words = ((words ^ (words >> 16)) * np.uint32(_SECOND_INVERSE)) & _LOW
    words = ((words ^ (words >> 15) ^ (words >> 30)) * np.uint32(_FIRST_INVERSE)) & _LOW
    return words ^ (words >> 16) ^ salt


def salts(words: Any) -> Any:
    """A salt for :func:`scrambled` of each word, ``uint32`` below 2³¹.

    Args:
        words: ``uint32``, any shape, such as a key's bits xor a query's row.
    """
    return hashed(words) & _LOW
