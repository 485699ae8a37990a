"""A process of its own that says one line where the process beside it was ended by JAX's runtime.

The runtime ends a process whose companions are gone from within C++, with a page of addresses on
stderr and no way for Python to say anything (a callback from Python ends it as well, by
``std::bad_cast``, in jaxlib 0.10). So what C++ writes goes through a pipe to this script, which
keeps it until the pipe ends. Then it says nothing where all was well, the line that it was given
where the runtime found its companions gone, and what was written otherwise, a crash for instance.

Run as ``python herald.py`` with the pipe as its stdin. A line that begins with a zero byte is for
this script: ``fine``, or what to say of a loss.
"""

import re
import sys

LOST = b"the JAX distributed service detected fatal errors"
"""What the runtime writes when it ends a process whose companions are gone."""

KEPT = 1 << 16
"""Bytes of what was written that are kept."""

# What gloo says when its processes have met.
_GREETING = re.compile(rb"^\[Gloo\] Rank \d+ is connected[^\n]*\n?", re.MULTILINE)
# Which process it was, in the several ways in which the runtime says it.
_WHICH = re.compile(rb"[Tt]ask:? (\d+)|stopped sending heartbeats\):\s+(\d+)")


def said(text: bytes, fine: bool, of_loss: str) -> str:
    """What is to be said in the end.

    Args:
        text: what C++ wrote.
        fine: whether the process ended as it should.
        of_loss: what to say where its companions are gone.
    """
    if fine:
        return ""
    if LOST in text:
        which = _WHICH.search(text)
        number = "" if which is None else f" (process {(which[1] or which[2]).decode()})"
        return of_loss.replace("{which}", number) + "\n"
    return _GREETING.sub(b"", text).decode(errors="replace")


def main() -> None:
    """Read the pipe to its end, and say what is to be said."""
    text, fine, of_loss = b"", False, ""
    for line in iter(sys.stdin.buffer.readline, b""):
        # Words for this script may stand behind an unfinished line of C++'s.
        written, zero, word = line.partition(b"\0")
        text = (text + written)[-KEPT:]
        if zero:
            fine = word.strip() == b"fine"
            of_loss = of_loss if fine else word.decode(errors="replace").strip()
    sys.stderr.write(said(text, fine, of_loss))


if __name__ == "__main__":
    main()
