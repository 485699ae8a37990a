"""A finished run as a folder to pass on, in the layout of a model hub.

=====================  ===========================================================================
README.md              a card: what was trained on how much, and its figures
config.json            the run's settings
model.safetensors      all tensors of the run, each behind the name of the file that a run has it in
users.parquet, items…  external ids in row order, and titles
summary.json           the figures
sums.json              SHA-256 sums of these files, which are checked when the folder is opened
=====================  ===========================================================================
"""

from __future__ import annotations

import json
import shutil
from collections import defaultdict
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import safetensors.numpy

from lightgcn_jax.errors import InputError
from lightgcn_jax.files import replacing, scratch_folder, whole_folder, write_text
from lightgcn_jax.paths import refuse_links
from lightgcn_jax.runs import RunDirectory
from lightgcn_jax.runs.stored_split import reading
from lightgcn_jax.settings import flat, model_name
from lightgcn_jax.sums import Sums, write_sums

_TENSORS = ("embeddings", "parameters", "model", "pairs")
_KEPT = ("config.json", "summary.json", "users.parquet", "items.parquet")
_ALL, _CARD = "model.safetensors", "README.md"


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
    sums = Sums(directory.path)
    tensors = {
        f"{name}/{tensor}": array
        for name in _TENSORS
        if (path := directory.path / f"{name}.safetensors").exists()
        for tensor, array in _read(sums.checked(path.name)).items()
    }
    with whole_folder(target, "folder") as folder:
        for name in _KEPT:
            with replacing(folder / name) as temporary:  # an error names this file, not the other
                shutil.copyfile(sums.checked(name), temporary)
        safetensors.numpy.save_file(tensors, folder / _ALL, metadata={"format": "np"})
        write_text(folder / _CARD, _card(directory))
        write_sums(folder, {})
    return target


def as_run(folder: Path, stack: ExitStack) -> Path:
    """A folder's files as a run directory has them; a run directory is returned as it is.

    Args:
        folder: what :func:`save_folder` wrote, or a run directory.
        stack: the run directory lies there until it is closed.

    Raises:
        InputError: a file is missing or damaged.
    """
    if not (folder / _CARD).exists() or (folder / "pairs.safetensors").exists():
        return folder
    refuse_links(folder)
    sums, run = Sums(folder), stack.enter_context(scratch_folder())
    for name in _KEPT:
        with reading(folder / name, "a file of a run"):
            shutil.copyfile(sums.checked(name), run / name)
    tensors = _read(sums.checked(_ALL))
    files: dict[str, dict[str, np.ndarray]] = defaultdict(dict)
    for name, array in tensors.items():
        file, _, tensor = name.partition("/")
        if file not in _TENSORS:
            raise InputError(f"{folder / _ALL}: expected tensors of {_TENSORS}, got {name!r}")
        files[file][tensor] = array
    for file, arrays in files.items():
        safetensors.numpy.save_file(arrays, run / f"{file}.safetensors")
    return run


def _read(path: Path) -> dict[str, np.ndarray]:
    with reading(path, "tensors of a run"):
        return safetensors.numpy.load_file(path)


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
