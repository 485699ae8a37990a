"""Directories that somebody else wrote, or a disk damaged: whatever a file holds, nothing comes of
it but an InputError that names it, or a result of numbers; with sums no altered byte is read.

Every case is drawn from a seed of its own, which a failure names.
"""

import contextlib
import dataclasses
import gc
import shutil
import signal
import time
import warnings

import jax
import numpy as np
import pytest

from lightgcn_jax.cli.console import metrics_table, results
from lightgcn_jax.data import PARTS, generate_world, ratio_split
from lightgcn_jax.errors import InputError
from lightgcn_jax.json_files import write_json
from lightgcn_jax.models import ItemCf
from lightgcn_jax.prepared import Preparation, open_prepared, prepare
from lightgcn_jax.runs import RunDirectory, SilentReporter, fit, load_params, load_scorer
from lightgcn_jax.runs.checkpoint import _sums, checkpoint_folders, load_checkpoint
from lightgcn_jax.runs.progress import Progress
from lightgcn_jax.runs.trainer import Trainer
from lightgcn_jax.serving import Index
from lightgcn_jax.settings import ClosedFormConfig, from_flat
from lightgcn_jax.settings.names import DEFAULTS, KINDS
from lightgcn_jax.sweeps import SweepConfig, run_sweep
from lightgcn_jax.sweeps.directory import SweepDirectory, spread
from pinsage_jax import fit as fit_pins
from pinsage_jax import keep_added, open_items
from pinsage_jax.config import PinSageConfig
from pinsage_jax.runs.directory import PinSageRun
from pinsage_jax.runs.finished import features_of, read_finished
from pinsage_jax.runs.memberships import read_memberships
from tests.mutations import ODD_VALUES, damaged, harmed, refused
from tests.pinsage.trained import pins, pins_task, tiny
from tests.unlisted import without_sums

SECONDS = 300
"""One case may take, on a busy machine too; the usual is a hundredth of a second."""


@contextlib.contextmanager
def in_time(case):
    """A case that hangs, or ends in anything but what is asked for, is named."""

    def late(*_):
        raise TimeoutError(f"{case}: no end after {SECONDS} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.alarm(SECONDS)
    try:
        yield
    except BaseException as error:
        error.add_note(f"case {case}")
        raise
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture(scope="module")
def split():
    world = generate_world(users=40, items=30, mean_degree=5, groups=3, seed=1)
    return ratio_split(world.interactions, seed=0).in_canonical_order()


TRAINED = from_flat({
    "dim": 4, "layers": 1, "epochs": 2, "batch_size": 64, "negatives": 8, "ks": (5,),
    "score": "mlp", "hidden": 4, "evaluate_every": 1, "checkpoint_seconds": 0.0,
})  # fmt: skip


@pytest.fixture(scope="module")
def trained(split, tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "trained"
    fit(split, TRAINED, out=path)
    return path


@pytest.fixture(scope="module")
def closed(split, tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "closed"
    fit(split, ClosedFormConfig(model=ItemCf(neighbours=4), ks=(5,)), out=path)
    return path


@pytest.fixture(scope="module")
def swept(split, tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "sweep"
    base, search = {"ks": (5,)}, {"model": ("popular", "itemcf")}
    run_sweep(split, SweepConfig(base, search, study=True), out=path)
    return path


@pytest.fixture(scope="module")
def pinned(tmp_path_factory):
    path = tmp_path_factory.mktemp("foreign") / "pins"
    fit_pins(pins_task(), tiny(walks=10, steps_per_epoch=2, epochs=1, log_degree=True), out=path)
    live = open_items(path)
    live.add(["a", "b"], pins().features.take([0, 1]), [["board-0"], []])
    keep_added(path, live)
    return path


@pytest.fixture(scope="module")
def indexed(tmp_path_factory):
    rng = np.random.default_rng(0)
    vectors = rng.normal(size=(200, 4)).astype(np.float32)
    index = Index.build([f"i{row}" for row in range(200)], vectors, target_recall=0.9, k=5)
    index.delete(["i3"])
    return index.save(tmp_path_factory.mktemp("foreign") / "index")


@pytest.fixture(scope="module")
def prepared(tmp_path_factory):
    folder = tmp_path_factory.mktemp("foreign")
    pairs = np.random.default_rng(0).integers(30, size=(300, 2))
    lines = ["user,item", *(f"u{user},i{item}" for user, item in pairs)]
    (folder / "log.csv").write_text("\n".join(lines))
    return prepare(Preparation([folder / "log.csv"]), folder / "prepared").path


def read_run(path):
    """All that the commands read of a run of LightGCN's program."""
    run = RunDirectory.open(path)
    config, scorer, summary = run.config, load_scorer(run), run.finished_summary()
    assert run.also_seen is None or len(run.also_seen)
    assert all(record["epoch"] >= 0 for record in run.history())
    assert (scorer.num_queries, scorer.num_items) == (len(run.split.users), len(run.split.items))
    for leaf in jax.tree.leaves((scorer, load_params(run, config))):
        assert np.isfinite(leaf).all()
    parts = {part: summary[part] for part in ("train", "valid", "test")}
    console = results()
    with console.capture():
        console.print(metrics_table(parts, summary.get("statistics")))
    assert run.offset_columns >= 0
    assert run.optimizer in ("adam", "none")
    return config


def read_sweep(path):
    """What going on with a sweep reads before it trains."""
    directory = SweepDirectory(path)
    assert len(directory.start.split.users)
    for trial in directory.trials:
        directory.config.trial_config(trial.params)
        if trial.value is not None and "seeds" in trial.user_attrs:
            spread(trial.user_attrs["seeds"], "valid", directory.config.shared.metric)
    directory.ask()


def read_pins(path):
    """All that the commands read of a run of PinSAGE's program."""
    live, run = open_items(path), read_finished(path)
    stored = PinSageRun.open(path)
    assert np.isfinite(live.vectors).all()
    assert np.isfinite(run.vectors).all()
    assert features_of(path, live).num_rows == len(live.items)
    read_memberships(stored, run.task.train)
    assert all(record["epoch"] >= 0 for record in stored.read_metrics())
    assert stored.summary["best_epoch"] >= 0


def read_index(path):
    """What a search reads of an index."""
    index = Index.load(path)
    for found in index.search(np.ones((2, index._vectors.shape[1]), np.float32), 3):
        assert np.isfinite(found.scores).all()


def read_prepared(path):
    """What training reads of a prepared folder."""
    split = open_prepared(path).split
    for part in PARTS:
        pairs = getattr(split, part)
        assert (np.asarray(pairs.items) < len(split.items)).all()
        assert (np.asarray(pairs.users) < len(split.users)).all()


def files_of(path):
    """Those that are read: neither pictures, locks, checkpoints, nor the runs of a sweep."""
    names = (one.relative_to(path) for one in path.rglob("*") if one.is_file())
    own = sorted(
        name
        for name in names
        if name.suffix not in (".png", ".toml")
        and name.name[0] != "."
        and not {"checkpoints", "best", "groups"} & {*name.parts}
        and name.name != "progress.json"  # nobody reads it of a finished run
    )
    assert own
    return own


def without_result(read, run, copy, seeds):
    """Alter a file's bytes, sums or no sums beside it; how many cases were refused and read."""
    counts = [0, 0]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        names = files_of(copy)
        name = names[rng.integers(len(names))]
        content = (copy / name).read_bytes()
        kept = {one: (copy / one).read_bytes() for one in ("optuna.log",) if (copy / one).exists()}
        altered = harmed(name.name, content, rng)
        (copy / name).write_bytes(altered)
        with in_time((run.name, str(name), seed)):
            message = refused(lambda: read(copy))
            assert message is None or str(copy) in message, message
            listed = (copy / "sums.json").exists() and name.name != "sums.json"
            assert message is not None or not listed or altered == content
        (copy / name).write_bytes(content)
        for one, before in kept.items():
            (copy / one).write_bytes(before if one != str(name) else content)
        counts[message is None] += 1
    return counts


READERS = {
    "trained": read_run,
    "closed": read_run,
    "swept": read_sweep,
    "pinned": read_pins,
    "indexed": read_index,
    "prepared": read_prepared,
}
FEW = {"trained": 50, "closed": 40, "swept": 20, "pinned": 25, "indexed": 20, "prepared": 20}
MANY = {
    "trained": 2_500, "closed": 2_500, "swept": 1_000, "pinned": 1_000, "indexed": 500,
    "prepared": 500,
}  # fmt: skip


@pytest.mark.parametrize("kind", READERS)
def test_no_altered_byte_is_read(kind, request, tmp_path):
    run = request.getfixturevalue(kind)
    copy = tmp_path / "copy"
    shutil.copytree(run, copy)
    READERS[kind](copy)  # as it is, it is read
    counts = without_result(READERS[kind], run, copy, range(FEW[kind] // 2))
    assert counts[0] > counts[1]


@pytest.mark.parametrize("kind", READERS)
def test_foreign_files_are_refused_by_name_or_read(kind, request, tmp_path):
    run = request.getfixturevalue(kind)
    copy = without_sums(run, tmp_path / "copy")
    READERS[kind](copy)
    assert without_result(READERS[kind], run, copy, range(1_000, 1_000 + FEW[kind]))[0]


@pytest.mark.slow
@pytest.mark.parametrize("kind", READERS)
def test_many_foreign_files_are_refused_by_name_or_read(kind, request, tmp_path):
    run, reader = request.getfixturevalue(kind), READERS[kind]
    shutil.copytree(run, tmp_path / "listed")
    without_sums(run, tmp_path / "unlisted")
    for name, first in (("listed", 10_000), ("unlisted", 50_000)):
        seeds = range(first, first + MANY[kind])
        assert without_result(reader, run, tmp_path / name, seeds)[0]


# Checkpoints whose sums are right.


def check_checkpoints(split, run, copy, seeds):
    """Alter a checkpoint and write the sums anew: it is refused by name, or is one of the run's."""
    without_sums(run, copy)
    newest = checkpoint_folders(copy / "checkpoints")[0]
    for older in checkpoint_folders(copy / "checkpoints")[1:]:
        shutil.rmtree(older)
    trainer = Trainer(split, TRAINED, None, RunDirectory(copy), SilentReporter())
    template = trainer.array_template()
    files = sorted(one for one in newest.rglob("*") if one.is_file())
    refusals = 0
    for seed in seeds:
        rng = np.random.default_rng(seed)
        path = files[rng.integers(len(files))] if rng.random() < 0.5 else newest / "progress.json"
        content, manifest = path.read_bytes(), (newest / "manifest.json").read_bytes()
        path.write_bytes(harmed(path.name, content, rng))
        if path.name != "manifest.json":
            write_json(newest / "manifest.json", _sums(newest))
        message = None
        with in_time((str(path), seed)), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                found = load_checkpoint(copy / "checkpoints", template)
                Progress.stored(found.progress, newest / "progress.json", 1)
            except InputError as error:
                message = str(error)
        if message is None:
            arrays = zip(jax.tree.leaves(found.arrays), jax.tree.leaves(template), strict=True)
            assert all((one.shape, one.dtype) == (two.shape, two.dtype) for one, two in arrays)
        assert message is None or str(copy) in message, message
        refusals += message is not None
        path.write_bytes(content)
        (newest / "manifest.json").write_bytes(manifest)
    assert refusals


@pytest.fixture
def reads_left():
    """Waits for the reads that orbax has left to themselves: they say so when they go."""
    yield
    for _ in range(3):
        gc.collect()
        time.sleep(0.1)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("reads_left")
def test_foreign_checkpoints_are_refused_by_name_or_read(split, trained, tmp_path):
    check_checkpoints(split, trained, tmp_path / "copy", range(20))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.usefixtures("reads_left")
def test_many_foreign_checkpoints_are_refused_by_name_or_read(split, trained, tmp_path):
    check_checkpoints(split, trained, tmp_path / "copy", range(1_000, 2_000))


# Settings.

_MORE = (*ODD_VALUES, 5, 0.5, 10**12, "0.1", [1, 2], [0.5, 0.5], (5, 10), -0.0, "auto", "mf", 2**31)


def drawn_settings(rng, names, defaults):
    """One to four settings with odd values, among defaults."""
    chosen = rng.choice(sorted(names), rng.integers(1, 5), replace=False)
    odd = {str(name): _MORE[rng.integers(len(_MORE))] for name in chosen}
    some = {name: defaults[name] for name in names if name in defaults and rng.random() < 0.2}
    return some | odd


def check_settings(seeds):
    own = {field.name: field.default for field in dataclasses.fields(PinSageConfig)}
    counts = [0, 0]
    for seed in seeds:
        rng = np.random.default_rng(seed)
        if rng.random() < 0.5:
            given = drawn_settings(rng, KINDS, {k: v for k, v in DEFAULTS.items() if v is not None})
            make = lambda: from_flat(given)  # noqa: B023, E731
        else:
            given = drawn_settings(rng, own, own)
            make = lambda: PinSageConfig(**given)  # noqa: B023, E731
        with in_time((given, seed)):
            counts[refused(make) is None] += 1
    assert counts[0] > counts[1]


def test_odd_settings_are_refused_by_name_or_taken():
    check_settings(range(80))


@pytest.mark.slow
def test_many_odd_settings_are_refused_by_name_or_taken():
    check_settings(range(1_000, 6_000))


def test_a_sweep_of_odd_settings_is_refused_by_name_or_taken():
    for seed in range(40):
        rng = np.random.default_rng(seed)
        base = drawn_settings(rng, KINDS, {}) if rng.random() < 0.5 else {}
        search = {"dim": (4, 8)} | drawn_settings(rng, KINDS, {})
        with in_time((base, search, seed)):
            refused(lambda: SweepConfig(base, search))  # noqa: B023
    with pytest.raises(InputError, match="search: expected at most 100,000 trials, got"):
        SweepConfig({}, {name: tuple(range(1, 99)) for name in ("dim", "layers", "epochs")})


def test_damage_is_drawn_from_the_seed():
    one, two = (damaged(b"0123456789", np.random.default_rng(3)) for _ in range(2))
    assert one == two != b"0123456789"
