"""How the extension is compiled when the package is built; imports nothing of the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from setuptools.command.build_ext import build_ext
from setuptools.errors import CompileError

FLAGS = ("-std=c++17", "-O3", "-g0", "-ffp-contract=fast")


class BuildNative(build_ext):
    """Compile with the headers that come with jaxlib; where that fails, build without."""

    def build_extension(self, ext):
        """Compile one extension.

        Args:
            ext: what to compile; its flags and folders are completed.
        """
        ext.include_dirs.append(str(header_folder()))
        ext.extra_compile_args.extend(FLAGS)
        super().build_extension(ext)


def header_folder() -> Path:
    """Where jaxlib keeps the headers of XLA's foreign functions.

    Raises:
        CompileError: there is no jaxlib; an optional extension is then left out.
    """
    spec = importlib.util.find_spec("jaxlib")
    if spec is None or spec.origin is None:
        raise CompileError("jaxlib, whose headers the extension needs, is not installed")
    return Path(spec.origin).parent / "include"
