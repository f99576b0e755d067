"""The Gaussian process beside the textbook's formulas, and the expected improvement beside numerical integration."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import norm, rankdata

from tunehook.search.gaussian import (
    JITTER,
    LENGTH,
    NOISE,
    VARIANCE,
    GaussianProcess,
    _negative_log_posterior,
    log_expected_improvement,
    normal_scores,
    standard_scores,
)

CATEGORY = np.array([False, False, True])


def seen(count: int = 20) -> tuple[np.ndarray, np.ndarray]:
    """Points with two numbers and a category, and a smooth function of them."""
    dice = np.random.default_rng(1)
    points = np.c_[dice.random((count, 2)), dice.integers(3, size=count)].astype(float)
    return points, normal_scores(np.sin(3 * points[:, 0]) + points[:, 1] ** 2 + (points[:, 2] == 1))


def covariance(a: np.ndarray, b: np.ndarray, theta: np.ndarray) -> np.ndarray:
    """Matern 5/2, point by point."""
    lengths, variance = np.exp(theta[:-2]), np.exp(theta[-2])
    out = np.empty((len(a), len(b)))
    for i, one in enumerate(a):
        for j, other in enumerate(b):
            gap = np.where(CATEGORY, (one != other).astype(float), one - other) / lengths
            r = np.sqrt(5 * gap @ gap)
            out[i, j] = variance * (1 + r + r * r / 3) * np.exp(-r)
    return out


def test_predictions_are_those_of_the_textbook() -> None:
    """Rasmussen and Williams, 2006, equations 2.25 and 2.26, with a matrix that is inverted."""
    points, values = seen()
    process = GaussianProcess(points, values, CATEGORY)
    new = np.c_[np.random.default_rng(2).random((5, 2)), [0, 1, 2, 0, 1]]
    own = covariance(points, points, process.theta) + np.eye(20) * (np.exp(process.theta[-1]) + JITTER)
    across = covariance(new, points, process.theta)
    mean, deviation = process.predict(new)
    assert mean == pytest.approx(across @ np.linalg.inv(own) @ values, abs=1e-8)
    variance = np.diag(covariance(new, new, process.theta) - across @ np.linalg.inv(own) @ across.T)
    assert deviation == pytest.approx(np.sqrt(variance), abs=1e-6)


def test_the_fit_is_a_maximum() -> None:
    """The gradient is the function's, no step from the fit is better, and what does not matter has a long length."""
    points, values = seen(40)
    each = (points.T[:, :, None] - points.T[:, None, :]) ** 2
    each[2] = each[2] > 0
    mean, deviation = np.array([*[LENGTH] * 3, VARIANCE, NOISE]).T
    rest = (each, values, mean, deviation)
    for theta in np.random.default_rng(3).normal(mean, 0.7 * deviation, (5, 5)):
        told = _negative_log_posterior(theta, *rest)[1]
        steps = 1e-5 * np.eye(5)
        up, down = ([_negative_log_posterior(theta + sign * step, *rest)[0] for step in steps] for sign in (1, -1))
        assert told == pytest.approx((np.array(up) - down) / 2e-5, rel=1e-4, abs=1e-4)
    found = GaussianProcess(points, values, CATEGORY).theta
    best = _negative_log_posterior(found, *rest)[0]
    for step in 0.2 * np.vstack([np.eye(5), -np.eye(5)]):
        assert _negative_log_posterior(found + step, *rest)[0] > best
    useless = np.c_[points, np.random.default_rng(4).random(40)]
    lengths = GaussianProcess(useless, values, np.array([*CATEGORY, False])).theta[:4]
    assert lengths[3] > max(lengths[:2])


def test_guesses_are_followed_less_exactly() -> None:
    """More noise is expected where some of the values are guesses, and none of what the process itself expects."""
    points, values = seen(12)
    exact, guessed = (GaussianProcess(points, values, CATEGORY, has_guesses=one) for one in (False, True))
    assert guessed.theta[-1] > exact.theta[-1] + 1
    expected = GaussianProcess(points, values, CATEGORY, guessed.theta, expected=1)
    missed = [np.abs(one.predict(points)[0] - values) for one in (guessed, expected)]
    assert missed[1][-1] < 1e-3 < missed[0][-1]


@pytest.mark.parametrize("gap", [-3.0, -1.0, -0.5, 0.0, 2.0])
def test_the_expected_improvement_is_its_integral(gap: float) -> None:
    """How far a normal value is above the best one on average."""
    expected, _ = quad(lambda value: (value - 1.0) * norm.pdf(value, 1.0 + gap * 0.7, 0.7), 1.0, 12.0)
    told = log_expected_improvement(np.array([1.0 + gap * 0.7]), np.array([0.7]), 1.0)
    assert told[0] == pytest.approx(np.log(expected), abs=1e-6)


def test_the_expected_improvement_is_told_apart_far_away() -> None:
    """It falls with the distance, also where it is less than the smallest number, and has no jump."""
    gaps = -np.geomspace(0.5, 1e6, 2_000)
    told = log_expected_improvement(gaps, np.ones_like(gaps), 0.0)
    assert np.isfinite(told).all()
    assert (np.diff(told) < 0).all()
    around = log_expected_improvement(np.array([-1 - 1e-9, -1 + 1e-9]), np.ones(2), 0.0)
    assert around[0] == pytest.approx(around[1], abs=1e-7)


def test_what_is_left_out_is_predicted_by_the_others() -> None:
    """As by a process of the others with the same parameters, whose noise is in what it is told."""
    points, values = seen()
    process = GaussianProcess(points, values, CATEGORY)
    for at in range(0, 20, 5):
        rest = np.arange(20) != at
        others = GaussianProcess(points[rest], values[rest], CATEGORY, process.theta)
        assert process.left_out()[at] == pytest.approx(others.predict(points[at : at + 1])[0][0], abs=1e-6)


def test_standard_scores_keep_distances_and_cut_the_bad_side() -> None:
    """The best may be far away; the worst is no outlier; equal values are no division by zero."""
    values = np.array([-1e30, -2.0, -1.0, 0.0, 1.0, 2.0, 50.0])
    scores = standard_scores(values)
    assert (scores.mean(), scores.std()) == (pytest.approx(0, abs=1e-12), pytest.approx(1))
    assert (scores[2] - scores[1]) / (scores[6] - scores[5]) == pytest.approx(1 / 48)
    assert (scores[1] - scores[0]) / (scores[2] - scores[1]) == pytest.approx(3 * 1.4826 * 2 - 2)
    assert standard_scores(np.full(5, 3.0)) == pytest.approx(np.zeros(5))


def test_normal_scores_are_quantiles_of_ranks() -> None:
    """Outliers are no further away than the next rank, and equal values are equal."""
    values = np.array([3.0, -1e300, 7.0, 3.0, 1e300])
    scores = normal_scores(values)
    assert scores == pytest.approx(norm.ppf((rankdata(values) - 0.5) / 5))
    assert scores[0] == scores[3]
