"""A finished run as a folder to pass on, in the layout of a model hub.

=====================  ===========================================================================
README.md              a card: what was trained on how much, and its figures
config.json            the run's settings
model.safetensors      all tensors of the run, each behind the name of the file that a run has it in
users.parquet, items…  external ids in row order, and titles
summary.json           the figures
=====================  ===========================================================================
"""

from __future__ import annotations

import json
import shutil
import tempfile
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import whole_folder, write_text
from lightgcn_jax.runs import RunDirectory
from lightgcn_jax.settings import flat, model_name

_TENSORS = ("embeddings", "parameters", "model", "pairs")
_KEPT = ("config.json", "summary.json", "users.parquet", "items.parquet")
_ALL = "model.safetensors"


def save_folder(run: str | Path, target: str | Path) -> Path:
    """Write a finished run as a folder that ``Recommender.load`` opens.

    Args:
        run: a run directory.
        target: a new folder, or an empty one.

    Returns:
        ``target``.

    Raises:
        InputError: no finished run, or the folder holds something.
    """
    directory, target = RunDirectory.open(Path(run)), Path(target)
    directory.finished_summary()
    tensors = {
        f"{name}/{tensor}": array
        for name in _TENSORS
        if (path := directory.path / f"{name}.safetensors").exists()
        for tensor, array in safetensors.numpy.load_file(path).items()
    }
    with whole_folder(target, "folder") as folder:
        for name in _KEPT:
            shutil.copyfile(directory.path / name, folder / name)
        safetensors.numpy.save_file(tensors, folder / _ALL, metadata={"format": "np"})
        write_text(folder / "README.md", _card(directory))
    return target


def as_run(folder: Path, stack: ExitStack) -> Path:
    """A folder's files as a run directory has them; a run directory is returned as it is.

    Args:
        folder: what :func:`save_folder` wrote, or a run directory.
        stack: the run directory lies there until it is closed.

    Raises:
        InputError: a file is missing or damaged.
    """
    if not (folder / "README.md").exists() or (folder / "pairs.safetensors").exists():
        return folder
    run = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="run-")))
    try:
        for name in _KEPT:
            shutil.copyfile(folder / name, run / name)
        tensors = safetensors.numpy.load_file(folder / _ALL)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{folder}: expected the folder of a run, got {error}") from error
    files: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for name, array in tensors.items():
        file, _, tensor = name.partition("/")
        if file not in _TENSORS:
            raise InputError(f"{folder / _ALL}: expected tensors of {_TENSORS}, got {name!r}")
        files[file][tensor] = array
    for file, arrays in files.items():
        safetensors.numpy.save_file(arrays, run / f"{file}.safetensors")
    return run


def _card(run: RunDirectory) -> str:
    """The card: YAML for a hub, then what a person reads."""
    summary, split, config = run.finished_summary(), run.split, run.config
    settings = flat(config)
    rows = [
        f"| {part} | {name} | {value:.4f} |"
        for part in ("valid", "test")
        for name, value in summary.get(part, {}).items()
    ]
    figures = "\n".join(["| part | metric | value |", "|---|---|---|", *rows])
    return f"""---
library_name: lightgcn-pinsage-jax
tags: [recommender-system, collaborative-filtering, {model_name(config)}, jax]
---

# {model_name(config)} on {len(split.users):,} users and {len(split.items):,} items

{summary["protocol_note"]}. The data: {split.counts()}; {split.description}.

{figures if rows else "Nothing was held out, so there are no figures."}

```python
from lightgcn_jax import Recommender

recommender = Recommender.load("this-folder")
recommender.recommend({split.users.ids[0]!r}, k=10)
recommender.recommend_from([{split.items.ids[0]!r}], k=10)  # somebody new, by what they like
```

Settings: `{json.dumps(settings, default=str)}`
"""
