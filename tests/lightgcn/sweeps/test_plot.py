"""The picture of a sweep: curves where settings give some, else Optuna's slices."""

import matplotlib
import optuna
import pytest
from matplotlib import pyplot
from matplotlib.figure import Figure

from lightgcn_jax.sweeps import SweepConfig
from lightgcn_jax.sweeps.plot import plot_sweep

METRIC = "recall@20"


def trial_of(parameters, valid, seeds, distributions):
    figures = [
        {"seed": seed, "best_epoch": 1, "train": {METRIC: 1.0}, "valid": {METRIC: valid + seed}}
        for seed in range(seeds)
    ]
    return optuna.trial.create_trial(
        params=parameters, distributions=distributions, value=valid, user_attrs={"seeds": figures}
    )


@pytest.fixture
def draw(tmp_path, monkeypatch):
    def drawn(trials, seeds=1, study=False):
        figures, save = [], Figure.savefig

        def saving(figure, *arguments, **options):
            figures.append(figure)
            return save(figure, *arguments, **options)

        monkeypatch.setattr(Figure, "savefig", saving)
        config = SweepConfig({"seeds": seeds}, {"l2": (0, 1)}, study=study)
        values = {name: [*dict.fromkeys(one[name] for one in trials)] for name in trials[0]}
        distributions = {
            name: optuna.distributions.CategoricalDistribution(own) for name, own in values.items()
        }
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        kept = optuna.create_study(direction="maximize")
        for number, one in enumerate(trials):
            kept.add_trial(trial_of(one, number / 10, seeds, distributions))
        kept.add_trial(
            optuna.trial.create_trial(
                state=optuna.trial.TrialState.PRUNED, params=trials[0], distributions=distributions
            )
        )
        before = dict(matplotlib.rcParams)
        path = plot_sweep(tmp_path, config, kept)
        assert path.read_bytes().startswith(b"\x89PNG")
        assert dict(matplotlib.rcParams) == before
        assert not pyplot.get_fignums()
        return figures[-1]

    return drawn


def test_one_numeric_setting_gives_a_curve_a_part(draw):
    figure = draw([{"dim": dim, "loss": "bpr"} for dim in (64, 4, 16)], seeds=2, study=True)
    assert figure.get_suptitle() == "study: test ranked for every trial"
    [axes] = figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("dim", METRIC)
    assert axes.get_xscale() == "log"
    train, valid = (container.lines[0] for container in axes.containers)
    assert train.get_xdata().tolist() == valid.get_xdata().tolist() == [4, 16, 64]
    # Means over two seeds, half a point above the first one's value.
    assert valid.get_ydata().tolist() == pytest.approx([0.6, 0.7, 0.5])
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["train", "valid"]


def test_a_second_setting_gives_a_set_of_curves_a_value(draw):
    trials = [{"dim": d, "loss": loss} for loss in ("bpr", "softmax") for d in (4, 5, 6)]
    [axes] = draw(trials).axes
    labels = [text.get_text() for text in axes.get_legend().get_texts()]
    assert labels == [f"{part}, loss {loss}" for loss in ("bpr", "softmax") for part in
                      ("train", "valid")]  # fmt: skip
    assert axes.get_xscale() == "linear"


@pytest.mark.parametrize(
    "trials",
    [
        [{"learning_rate": 10.0**-n, "l2": n / 100} for n in range(10)],
        [{"dim": n, "loss": "bpr", "layers": n % 3} for n in range(1, 5)],
        [{"loss": "bpr"}, {"loss": "softmax"}],
        [{"loss": "bpr"}],
    ],
    ids=["two continuous", "three", "names", "one trial"],
)
def test_all_else_is_optunas_slices(draw, trials):
    figure = draw(trials)
    *slices, colors = figure.axes
    assert colors.get_ylabel() == "Trial"
    assert {axes.get_xlabel() for axes in slices} == trials[0].keys()
    assert slices[0].get_ylabel() == f"valid {METRIC}"
    assert not figure.get_suptitle()
    for axes in slices:
        assert len(axes.collections[0].get_offsets()) == len(trials)
