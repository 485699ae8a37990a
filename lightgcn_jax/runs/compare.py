"""Finished runs side by side on the same test pairs, and whether they differ by more than chance.

Runs may number users and items differently: pairs are compared, and users matched, by external id.
"""

from __future__ import annotations

import dataclasses
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from lightgcn_jax.data.pairs import Pairs, merge_pairs, pair_keys
from lightgcn_jax.data.splits import Split
from lightgcn_jax.errors import InputError
from lightgcn_jax.evaluation.cold import is_known
from lightgcn_jax.evaluation.metrics import USER_METRICS, evaluate
from lightgcn_jax.evaluation.parts import evaluation_sets
from lightgcn_jax.evaluation.significance import FEW_USERS, PairedComparison, compare_paired, holm
from lightgcn_jax.runs.directory import RunDirectory
from lightgcn_jax.runs.loading import load_scorer
from lightgcn_jax.runs.own_objects import those_of
from lightgcn_jax.settings import label_of, model_name


@dataclasses.dataclass(frozen=True)
class MetricTest:
    """A run against the baseline in one metric.

    Attributes:
        paired: the difference, its interval and the p values of this one comparison.
        t_test_p: the paired t-test's, after Holm over all runs that are compared in the metric;
            NaN where the differences have no spread.
        permutation_p: the permutation test's, likewise; always a number.
    """

    paired: PairedComparison
    t_test_p: float
    permutation_p: float

    @property
    def p(self) -> float:
        """The larger of both: what both tests allow to say."""
        return float(np.fmax(self.t_test_p, self.permutation_p))


@dataclasses.dataclass(frozen=True)
class ComparedRun:
    """A run's place in a comparison.

    Attributes:
        path: its directory.
        name: the directory's name, or its path where another run's is named alike.
        model: its model.
        protocol: the protocol of its figures.
        protocol_note: what figures under it mean.
        best_epoch: the epoch whose model is ranked; 0 for a closed form.
        metrics: means over the test users, ``{"recall@20": …}``.
        half_widths: half widths of their 95 % intervals by the standard error; NaN for one user.
        tests: by metric, against the baseline; empty for the baseline itself.
    """

    path: Path
    name: str
    model: str
    protocol: str
    protocol_note: str
    best_epoch: int
    metrics: dict[str, float]
    half_widths: dict[str, float]
    tests: dict[str, MetricTest]


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Runs on the same test pairs.

    Attributes:
        runs: in the order given.
        baseline: place of the run that the others are tested against.
        users: test users, the same of every run.
        test_pairs: those compared, the same of every run: under the policy ``skip`` without those
            whose user or item no training interaction of some run names.
        notes: what beside the model differs between the runs, and what few test users mean, a line
            each.
    """

    runs: tuple[ComparedRun, ...]
    baseline: int
    users: int
    test_pairs: int
    notes: tuple[str, ...]

    def best(self, metric: str) -> list[int]:
        """Places of the runs with the highest value of a metric.

        Args:
            metric: its name, ``recall@20`` for instance.
        """
        values = [run.metrics[metric] for run in self.runs]
        return [place for place, value in enumerate(values) if value == max(values)]


def compare_runs(
    paths: Sequence[Path | str],
    k: int = 20,
    metrics: Sequence[str] = ("recall", "ndcg"),
    baseline: int = 0,
    seed: int = 0,
    own: Sequence[Any] = (),
) -> Comparison:
    """Rank the test pairs of finished runs and test each run against one of them.

    Each run leaves out of a user's list what it was trained or selected on, and ranks by the
    model that it keeps, which is one where there are several seeds.

    Args:
        paths: directories of two runs or more, of any models; a run may stand twice.
        k: cut-off.
        metrics: names of metrics of a user, ``recall`` for instance.
        baseline: place of the run that the others are tested against.
        seed: seed of the permutation test and the bootstrap, which draw the same signs and users in
            every comparison.
        own: the scores and closed forms of one's own that runs were made with; each run takes the
            ones that it describes.

    Returns:
        The comparison; p values are corrected for the number of tests of a metric.

    Raises:
        InputError: fewer than two runs, one that is not finished, test pairs that are not the
            same, or a metric or cut-off that does not exist.
    """
    if isinstance(paths, (str, Path)):
        raise InputError(f"runs: expected a list of at least two, [{str(paths)!r}, …]")
    if len(paths) < 2:
        raise InputError(f"runs: expected at least two to compare, got {len(paths)}")
    if not 0 <= baseline < len(paths):
        raise InputError(f"baseline: expected 0 to {len(paths) - 1}, got {baseline}")
    unknown = [name for name in metrics if name not in USER_METRICS]
    if unknown or not metrics:
        raise InputError(
            f"metrics: expected some of {', '.join(USER_METRICS)}, "
            f"got {', '.join(unknown) or 'none'}"
        )
    directories = [RunDirectory.open(Path(path)) for path in paths]
    chosen = directories[baseline]
    for directory in directories:
        # Before any of them is ranked, which takes time.
        directory.finished_summary()
        check_same_test_pairs(directory, chosen)
    columns = [f"{name}@{k}" for name in dict.fromkeys(metrics)]
    keys = _judged(directories, chosen.split)
    values = [
        _user_values(directory, chosen.split, keys, columns, k, own) for directory in directories
    ]
    tests = _tests(values, columns, baseline, seed)
    names = _names(directories)
    runs = tuple(_compared(*parts) for parts in zip(directories, names, values, tests, strict=True))
    users, withheld = len(np.unique(keys >> 32)), len(chosen.split.test)
    notes = _notes(users, runs)
    if len(keys) < withheld:
        notes.append(
            f"{withheld - len(keys):,} of {withheld:,} test pairs are left out: no training "
            "interaction of some run names their user or item (cold skip)"
        )
    for directory, name in zip(directories, names, strict=True):
        notes += _data_notes(directory.split, name, chosen.split, names[baseline])
    distinct = tuple(dict.fromkeys(notes))
    return Comparison(runs, baseline, users, len(keys), distinct)


def check_same_test_pairs(directory: RunDirectory, other: RunDirectory) -> None:
    """Make sure that two runs withhold the same test pairs, by external ids.

    Args:
        directory: a run.
        other: what it is compared with.

    Raises:
        InputError: they do not (it says how many differ, and names one), or there are none.
    """
    split, base = directory.split, other.split
    if not len(split.test):
        raise InputError(f"{directory.path}: expected test pairs to compare by, it has none")
    added, missing = _differing(split, split.test, base, base.test)
    for owner, which in ((split, added), (base, missing)):
        if which.any():
            pair = int(np.argmax(which))
            (user,) = owner.users.external(owner.test.users[[pair]])
            (item,) = owner.items.external(owner.test.items[[pair]])
            raise InputError(
                f"{directory.path}: expected the test pairs of {other.path}, got {added.sum():,} "
                f"others, while {missing.sum():,} are missing, one of these being user {user!r} "
                f"with item {item!r}; compare runs on the same split"
            )


def _keys_in(base: Split, split: Split, pairs: Pairs) -> np.ndarray:
    """The keys of a split's pairs in the rows of another, int64[E]; -1 for unknown ids."""
    users = base.users.rows(split.users.ids)[pairs.users]
    items = base.items.rows(split.items.ids)[pairs.items]
    return np.where((users >= 0) & (items >= 0), pair_keys(users, items), -1)


def _judged(directories: Sequence[RunDirectory], base: Split) -> np.ndarray:
    """The keys of the test pairs, in the base's rows, that every run is judged by."""
    keys = base.test.keys
    for directory in directories:
        split = directory.split
        if directory.config.cold == "skip":
            known = is_known(split.test, split.train)
            keys = np.intersect1d(keys, _keys_in(base, split, split.test)[known])
    if not len(keys):
        raise InputError(
            f"test: expected a pair whose user and item the training interactions of all runs "
            f"name, got none among {len(base.test):,} (cold skip)"
        )
    return keys


def _differing(
    split: Split, pairs: Pairs, base: Split, base_pairs: Pairs
) -> tuple[np.ndarray, np.ndarray]:
    """Which of a split's pairs are not among another's, and which of those are not among them."""
    # A pair of unknown ids is no pair of the base.
    here = _keys_in(base, split, pairs)
    return ~np.isin(here, base_pairs.keys), ~np.isin(base_pairs.keys, here)


def _user_values(
    directory: RunDirectory,
    base: Split,
    keys: np.ndarray,
    columns: Sequence[str],
    k: int,
    own: Sequence[Any],
) -> dict[str, np.ndarray]:
    """Each metric of every user of the pairs ``keys``, ``float32[users]``, by the base's rows."""
    config = directory.config_with(**those_of(directory.own_objects, own))
    sets = evaluation_sets(directory.split, config.cold)
    scorer = load_scorer(directory, config)
    split, test = directory.split, directory.split.test
    judged = np.isin(_keys_in(base, split, test), keys)
    relevant = test.users[judged], test.items[judged]
    evaluation = evaluate(sets.ranking(scorer), relevant, ks=(k,), seen=sets.known)
    order = np.argsort(base.users.rows(split.users.ids)[evaluation.users])
    return {name: evaluation.per_user[name][order] for name in columns}


def _tests(
    values: Sequence[dict[str, np.ndarray]], columns: Sequence[str], baseline: int, seed: int
) -> list[dict[str, MetricTest]]:
    """The tests of each run against the baseline, by metric."""
    tests: list[dict[str, MetricTest]] = [{} for _ in values]
    others = [place for place in range(len(values)) if place != baseline]
    for name in columns:
        paired = [
            compare_paired(values[baseline][name], values[place][name], seed=seed)
            for place in others
        ]
        t_test_ps = holm(np.array([one.t_test_p for one in paired]))
        permutation_ps = holm(np.array([one.permutation_p for one in paired]))
        for place, one, *ps in zip(others, paired, t_test_ps, permutation_ps, strict=True):
            tests[place][name] = MetricTest(one, *map(float, ps))
    return tests


def _compared(
    run: RunDirectory, name: str, values: dict[str, np.ndarray], tests: dict[str, MetricTest]
) -> ComparedRun:
    model, protocol, note = model_name(run.config), run.config.protocol, label_of(run.config)
    best_epoch = run.finished_summary()["best_epoch"]
    means = {column: float(each.mean(dtype=np.float64)) for column, each in values.items()}
    half_widths = {column: _half_width(each) for column, each in values.items()}
    return ComparedRun(run.path, name, model, protocol, note, best_epoch, means, half_widths, tests)


def _half_width(values: np.ndarray) -> float:
    """1.96 standard errors of a mean."""
    if len(values) < 2:
        return float("nan")
    return float(1.96 * values.std(ddof=1, dtype=np.float64) / np.sqrt(len(values)))


def _names(directories: Sequence[RunDirectory]) -> list[str]:
    """The directories' own names, or their paths where two would share one."""
    places = {directory.path.resolve() for directory in directories}
    shared = Counter(place.name for place in places)
    return [
        name if shared[name := directory.path.resolve().name] == 1 else str(directory.path)
        for directory in directories
    ]


def _notes(users: int, runs: Sequence[ComparedRun]) -> list[str]:
    """What few test users and several protocols mean."""
    notes = []
    if users < FEW_USERS:
        limit = "only a large difference can be told from chance"
        if 2 / 2**users >= 0.05:
            limit = f"no difference can be told from chance (p is at least {2 / 2**users:g})"
        notes.append(f"{users} test users are few: {limit}, and intervals are rough")
    if len({run.protocol for run in runs}) > 1:
        each = ", ".join(f"{run.name} {run.protocol}" for run in runs)
        notes.append(f"protocols differ, and figures with them: {each}")
    return notes


def _data_notes(split: Split, name: str, base: Split, base_name: str) -> list[str]:
    """What two splits do not share beside their test pairs."""
    notes = []
    for what, pairs, base_pairs in (
        ("trained on", split.train, base.train),
        ("left out of the lists", *(merge_pairs(one.train, one.valid) for one in (split, base))),
    ):
        added, missing = (which.sum() for which in _differing(split, pairs, base, base_pairs))
        if added or missing:
            notes.append(
                f"pairs {what} differ: {name} has {added:,} that {base_name} has not, and lacks "
                f"{missing:,} of its {len(base_pairs):,}"
            )
    if len(split.items) != len(base.items):
        notes.append(
            f"catalogues differ: {name} ranks {len(split.items):,} items, {base_name} "
            f"{len(base.items):,}"
        )
    return notes
