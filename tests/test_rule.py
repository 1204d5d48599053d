"""The stopping rule keeps the risk that was asked for, and scores are worth what they say."""

from __future__ import annotations

import math

import numpy as np
import pytest
from conftest import DATA
from glass_edge.calibration.errors import CalibrationError
from glass_edge.calibration.steadiness.curve import fixed_points, rule_curve
from glass_edge.calibration.steadiness.rule import (
    SIZE_POWER,
    choose_rule,
    images_needed,
    spend,
    unlike,
    upper_bound,
)
from glass_edge.calibration.steadiness.scores import Goal, choose_border, fit_scores
from glass_edge.calibration.steadiness.sequences import Sequences, steps_up_to
from glass_edge.runtime.bundle.stopping import size_factor
from glass_edge.runtime.machine.errors import InputError
from scipy.stats import beta, binom
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import log_loss

STEPS = steps_up_to(32)


def stored() -> Sequences:
    """Margins of 1,000 photographs, judged by the demo in INT8; see docs/steadiness.md."""
    found = np.load(DATA / "sequences.npz")
    return Sequences(
        tuple(map(str, range(len(found["areas"])))),
        tuple(found["steps"].tolist()),
        found["margins"].astype(float),
        found["places"].astype(int),
        found["areas"].astype(float),
    )


@pytest.fixture(scope="module")
def sequences():
    return stored()


def part(sequences: Sequences, images) -> Sequences:
    """The first sequence of some images."""
    return Sequences(
        tuple(np.array(sequences.paths)[images]),
        sequences.steps,
        sequences.margins[images, :1],
        sequences.places[images, :1],
        sequences.areas[images],
    )


ALL = slice(None)


@pytest.mark.parametrize("risk", [0.02, 0.05])
def test_the_bound_holds_on_held_out_images_in_95_of_100_splits(sequences, risk):
    """Half of the photographs choose the rule, the other half have the true risk."""
    rng = np.random.default_rng(17)
    kept = 0
    for _ in range(100):
        order = rng.permutation(len(sequences.paths))
        half = len(order) // 2
        rule = choose_rule(part(sequences, order[:half]), STEPS, risk)
        others = part(sequences, order[half:])
        spent = spend(others, rule.steps, rule.taus, 0.0)
        kept += unlike(spent.margins, others, 0.0).mean() <= risk
    assert kept >= 95


def test_the_bound_holds_where_the_truth_is_known():
    """Many small samples of a made-up detector, whose risk is known from many more images."""
    rng = np.random.default_rng(3)

    def sample(images: int) -> Sequences:
        truth = rng.normal(0, 20, (images, 1, 1))
        steps = np.array([*STEPS, 48, 64])
        walk = np.cumsum(rng.normal(0, 1.5, (images, 1, 64)), axis=2) / np.arange(1, 65)
        margins = truth + walk[:, :, steps - 1]
        return Sequences(
            ("",) * images, tuple(steps), margins, np.full((images, 1), 64), np.ones(images)
        )

    everyone, broken = sample(50_000), 0
    for _ in range(100):
        rule = choose_rule(sample(250), STEPS, 0.05)
        spent = spend(everyone, rule.steps, rule.taus, 0.0)
        broken += unlike(spent.margins, everyone, 0.0).mean() > 0.05
    assert broken <= 5


def test_a_rule_is_cheaper_than_the_number_that_errs_as_often(sequences):
    four = fixed_points(sequences, 0.0)[4]
    assert (four.crops, four.unlike, four.flips) == pytest.approx((4.0, 0.0215, 0.033))
    rules = rule_curve(sequences, STEPS, 0.0)
    assert min(rule.crops for rule in rules if rule.unlike <= four.unlike) < 0.4 * four.crops


def test_the_cheapest_rule_that_was_shown_to_keep_the_risk_is_chosen(sequences):
    images = part(sequences, ALL)
    rule = choose_rule(images, STEPS, 0.03)
    assert rule.bound == pytest.approx(beta.ppf(0.95, rule.unlike + 1, 1000 - rule.unlike))
    assert rule.bound <= 0.03
    spent = spend(images, rule.steps, rule.taus, 0.0)
    assert rule.spent.crops.mean() == pytest.approx(spent.crops.mean())
    assert rule.unlike == unlike(spent.margins, images, 0.0).sum()
    sooner = spend(images, rule.steps, [tau * 2**-0.125 for tau in rule.taus], 0.0)
    assert upper_bound(int(unlike(sooner.margins, images, 0.0).sum()), 1000) > 0.03


def test_images_count_once_however_many_sequences_they_have(sequences):
    with pytest.raises(ValueError, match="one sequence"):
        choose_rule(sequences, STEPS, 0.03)


def test_rules_are_applied_as_a_run_applies_them():
    margins = np.array(
        [[[3.0, 3.0, 3.0]], [[0.5, -2.0, 1.0]], [[0.5, 0.5, -0.1]], [[0.1, 0.1, 0.1]]]
    )
    images = Sequences(
        ("a", "b", "c", "d"), (1, 2, 4), margins, np.array([[4], [4], [4], [1]]), np.ones(4)
    )
    spent = spend(images, (1, 2, 4), (1.0, 1.0, 1.0), 0.0)
    assert spent.crops.ravel().tolist() == [1, 2, 4, 1]
    assert spent.settled.ravel().tolist() == [True, True, False, True]
    assert spent.margins.ravel().tolist() == [3.0, -2.0, -0.1, 0.1]
    assert unlike(spent.margins, images, 0.0).ravel().tolist() == [False, True, False, False]


def test_larger_images_need_larger_margins():
    two = Sequences(
        ("small", "large"),
        (1, 64),
        np.full((2, 1, 2), 1.5),
        np.full((2, 1), 64),
        np.array([1, 16.0]),
    )
    spent = spend(two, (1, 64), (1.0, 0.0), 0.0)
    assert 16**SIZE_POWER == 2.0
    assert spent.crops.ravel().tolist() == [1, 64]


@pytest.mark.parametrize("area", [0.1, 1.0, 16.0, 64.0, 1e4])
def test_an_images_size_counts_as_in_a_run(area):
    image = Sequences(("a",), (1, 64), np.full((1, 1, 2), 1.0), np.array([[64]]), np.array([area]))
    needed = 1.0 / size_factor(area, SIZE_POWER)
    for tau, crops in ((needed * 0.999, 1), (needed * 1.001, 64)):
        assert spend(image, (1, 64), (tau, 0.0), 0.0).crops == crops


def test_the_bound_is_that_of_clopper_and_pearson():
    for count, images in ((0, 299), (3, 500), (7, 60)):
        bound = upper_bound(count, images)
        assert binom.cdf(count, images, bound) == pytest.approx(0.05)


def test_how_many_images_a_risk_needs():
    assert {risk: images_needed(risk) for risk in (0.01, 0.05, 0.5)} == {
        0.01: 299,
        0.05: 59,
        0.5: 5,
    }
    for risk in (0.003, 0.01, 0.05, 0.3):
        needed = images_needed(risk)
        assert upper_bound(0, needed) <= risk < upper_bound(0, needed - 1)


def test_too_few_images(sequences):
    few = part(sequences, slice(100))
    with pytest.raises(
        CalibrationError, match=r"100 different images cannot .* at least 299 .*0\.03"
    ):
        choose_rule(few, STEPS, 0.01)


def test_a_risk_that_the_most_crops_do_not_keep(sequences):
    with pytest.raises(
        CalibrationError, match=r"even with 2 crops each, \d+ of 1000 .* --most-crops"
    ):
        choose_rule(part(sequences, ALL), (1, 2), 0.01)


# --- scores -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def labelled():
    rng = np.random.default_rng(5)
    truth = rng.random(4000) < 0.4
    sure = np.where(truth, 1.0, -1.0) + rng.normal(0, 1.2, 4000)
    return 3.0 * sure, truth


def test_the_temperature_is_the_slope_of_a_logistic_regression(labelled):
    margins, truth = labelled
    fitted = fit_scores(margins, truth, None)
    regression = LogisticRegression(C=np.inf, fit_intercept=False)
    regression.fit(margins[:, None], truth)
    assert 1 / fitted.temperature == pytest.approx(regression.coef_[0, 0], rel=1e-3)
    before, after = (
        log_loss(truth, 1 / (1 + np.exp(-margins / t))) for t in (1, fitted.temperature)
    )
    assert fitted.log_loss == pytest.approx((before, after))
    assert fitted.ece[1] < 0.5 * fitted.ece[0]
    assert fitted.threshold == 0.5


def test_nothing_is_fitted_where_every_verdict_is_right():
    fitted = fit_scores(np.array([1.0, -2.0, 3.0]), np.array([True, False, True]), None)
    assert fitted.temperature == 1.0
    assert "no temperature can be fitted" in fitted.notes[0]


@pytest.mark.parametrize("text", ["accuracy", "balanced", "fpr=0.05", "fnr=0.1"])
def test_no_other_threshold_serves_the_goal_better(labelled, text):
    margins, truth = labelled
    goal = Goal.parse(text)
    chosen = choose_border(margins, truth, goal)

    def cost(border: float) -> float:
        called = margins >= border
        fpr, fnr = called[~truth].mean(), (~called[truth]).mean()
        if goal.share is not None:
            limited, other = (fpr, fnr) if goal.criterion == "fpr" else (fnr, fpr)
            return other if limited <= goal.share else math.inf
        return (called != truth).mean() if goal.criterion == "accuracy" else (fpr + fnr) / 2

    assert not (margins == chosen).any(), "it lies between two images"
    assert cost(chosen) <= min(cost(border) for border in np.linspace(-12, 12, 2401)) + 1e-12


def test_a_threshold_is_one_of_calibrated_scores(labelled):
    margins, truth = labelled
    fitted = fit_scores(margins, truth, Goal("fpr", 0.05))
    scores = 1 / (1 + np.exp(-margins / fitted.temperature))
    assert (scores[~truth] >= fitted.threshold).mean() == pytest.approx(0.05, abs=1e-3)


def test_a_share_that_so_few_images_cannot_tell(labelled):
    words = r"only 50 images are not fake, too few for a share of 0\.01: at least 100"
    with pytest.raises(CalibrationError, match=words):
        choose_border(labelled[0][:70], np.arange(70) >= 50, Goal("fpr", 0.01))


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("accurracy", "Did you mean accuracy?"),
        ("fpr", "Did you mean fpr=0.01?"),
        ("accuracy=0.9", "Did you mean accuracy?"),
        ("fpr=2", "must lie between 0 and 1"),
        ("fpr=much", "must lie between 0 and 1"),
        ("", "not ''"),
    ],
)
def test_what_is_no_goal(text, words):
    with pytest.raises(InputError, match=words.replace("?", r"\?")):
        Goal.parse(text)
