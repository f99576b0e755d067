"""A Gaussian process over configurations, and how much a configuration is expected to improve on the best one.

NumPy and SciPy only. The kernel is Matern 5/2 with one length a dimension (Rasmussen and Williams, 2006, equations 4.17
and 5.2), its parameters are those of the largest posterior density, found by L-BFGS with the exact gradient (equation
5.9, with the terms of the prior).
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

# Log-normal priors, as mean and standard deviation of the logarithm: of a length, where dimensions are 1 long, of the
# variance, where values have variance 1, and of the noise, which is greater where some of the values are guesses.
LENGTH, VARIANCE, NOISE, NOISE_OF_GUESSES = (0.0, 1.0), (0.0, 1.0), (-7.0, 2.0), (-4.0, 2.0)
JITTER = 1e-6  # of the diagonal, always
_STEPS = 40  # of L-BFGS
_WIDE = 4.0  # standard deviations of the priors to search
_ROOT = np.sqrt(5.0)


class GaussianProcess:
    """A Gaussian process that has seen some points.

    Args:
        points: What was seen, (n, d).
        values: Their values with mean 0 and variance about 1, (n,).
        is_category: Which dimensions have no order, so that two points differ there or not, (d,).
        theta: The logarithms of the d lengths, of the variance and of the noise; fitted where it is left out.
        expected: How many of the last values have no noise. Defaults to 0.
        has_guesses: Whether some of the values are what trials are expected to come to. Defaults to False.
    """

    def __init__(
        self,
        points: Array,
        values: Array,
        is_category: NDArray[np.bool_],
        theta: Array | None = None,
        *,
        expected: int = 0,
        has_guesses: bool = False,
    ) -> None:
        from scipy.linalg import solve_triangular

        self.points, self.values, self._is_category = points, values, is_category
        self._noise = NOISE_OF_GUESSES if has_guesses else NOISE
        self.theta = self._fit() if theta is None else theta
        self._weights = np.exp(-2 * self.theta[:-2])
        covariance = self._covariance(points)
        noise = np.exp(self.theta[-1]) * (np.arange(len(points)) < len(points) - expected)
        covariance[np.diag_indices(len(points))] += noise + JITTER
        lower = np.linalg.cholesky(covariance)
        self._inverse = solve_triangular(lower, np.eye(len(points)), lower=True, check_finite=False)
        self._solved = self._inverse.T @ (self._inverse @ values)

    def predict(self, points: Array) -> tuple[Array, Array]:
        """Mean and standard deviation of the values without noise at other points, each (m,)."""
        covariance = self._covariance(points)
        explained = self._inverse @ covariance.T
        variance = np.exp(self.theta[-2]) - np.einsum("nm,nm->m", explained, explained)
        mean: Array = covariance @ self._solved
        return mean, np.sqrt(np.maximum(variance, 1e-10))

    def left_out(self) -> Array:
        """What is expected at each point where its own value is left out (Rasmussen and Williams, equation 5.12)."""
        expected: Array = self.values - self._solved / np.einsum("nm,nm->m", self._inverse, self._inverse)
        return expected

    def _covariance(self, points: Array) -> Array:
        kept, _ = _matern(self._distances(points))
        scaled: Array = np.exp(self.theta[-2]) * kept
        return scaled

    def _distances(self, points: Array) -> Array:
        """Squared distances to what was seen in units of the lengths, (m, n)."""
        numbers = ~self._is_category
        scale = np.sqrt(self._weights[numbers])
        a, b = points[:, numbers] * scale, self.points[:, numbers] * scale
        squared: Array = (a * a).sum(1)[:, None] + (b * b).sum(1)[None] - 2 * a @ b.T
        for at in np.flatnonzero(self._is_category):
            squared += self._weights[at] * (points[:, at, None] != self.points[None, :, at])
        return np.maximum(squared, 0.0)

    def _fit(self) -> Array:
        """The parameters of the largest posterior density."""
        from scipy.optimize import minimize

        each = (self.points.T[:, :, None] - self.points.T[:, None, :]) ** 2  # (d, n, n)
        each[self._is_category] = each[self._is_category] > 0
        priors = np.array([*[LENGTH] * len(each), VARIANCE, self._noise])
        mean, deviation = priors.T
        bounds = [*zip(mean - _WIDE * deviation, mean + _WIDE * deviation, strict=True)]
        found = minimize(
            _negative_log_posterior, mean, (each, self.values, mean, deviation), jac=True, method="L-BFGS-B",
            bounds=bounds, options={"maxiter": _STEPS},
        )  # fmt: skip
        theta: Array = found.x
        return theta


def _matern(squared: Array) -> tuple[Array, Array]:
    """Matern 5/2 at squared distances, and minus twice its derivative by them."""
    distance = np.sqrt(squared)
    decay = np.exp(-_ROOT * distance)
    return (1 + _ROOT * distance + 5 / 3 * squared) * decay, 5 / 3 * (1 + _ROOT * distance) * decay


def _negative_log_posterior(
    theta: Array, each: Array, values: Array, mean: Array, deviation: Array
) -> tuple[float, Array]:
    """Of the parameters, up to a constant, with its gradient."""
    from scipy.linalg import solve_triangular

    count = len(values)
    weights, variance, noise = np.exp(-2 * theta[:-2]), np.exp(theta[-2]), np.exp(theta[-1])
    kept, slope = _matern(np.tensordot(weights, each, 1))
    covariance = variance * kept
    signal = covariance.copy()
    covariance[np.diag_indices(count)] += noise + JITTER
    try:
        lower = np.linalg.cholesky(covariance)
    except np.linalg.LinAlgError:
        return 1e10, np.zeros_like(theta)
    half = solve_triangular(lower, np.eye(count), lower=True, check_finite=False)
    inverse = half.T @ half
    solved = inverse @ values
    standard = (theta - mean) / deviation
    density = 0.5 * values @ solved + np.log(np.diag(lower)).sum() + 0.5 * standard @ standard
    by_covariance = inverse - np.outer(solved, solved)
    gradient = standard / deviation
    inner = (by_covariance * slope * variance).ravel()
    gradient[:-2] += 0.5 * weights * (each.reshape(len(each), -1) @ inner)
    gradient[-2] += 0.5 * np.vdot(by_covariance, signal)
    gradient[-1] += 0.5 * np.trace(by_covariance) * noise
    return float(density), gradient


def log_expected_improvement(mean: Array, deviation: Array, best: float) -> Array:
    """The logarithm of how much a value is expected to be above the best one, also where that is tiny.

    Ament et al., 2023, arXiv:2310.20708, equation 9.

    Args:
        mean: Of the values.
        deviation: Their standard deviations.
        best: The best value so far.
    """
    from scipy.special import erfcx, log_ndtr

    z = (mean - best) / deviation
    far = z <= -1
    out: Array = np.empty_like(z)
    near = z[~far]
    out[~far] = np.log(np.exp(-near * near / 2) / np.sqrt(2 * np.pi) + near * np.exp(log_ndtr(near)))
    z = z[far]
    ratio = np.log(np.sqrt(np.pi / 2) * erfcx(-z / np.sqrt(2)) * np.abs(z))
    out[far] = -z * z / 2 - 0.5 * np.log(2 * np.pi) + np.log1p(-np.exp(np.minimum(ratio, -1e-12)))
    out += np.log(deviation)
    return out


def ranks(values: Array) -> Array:
    """The ranks of values, from 0.5; equal values have one, the middle of theirs."""
    _, place, counts = np.unique(values, return_inverse=True, return_counts=True)
    middle: Array = np.cumsum(counts) - counts / 2
    return middle[place]


def normal_scores(values: Array) -> Array:
    """Values by their ranks, as quantiles of the standard normal distribution.

    Salinas et al., 2020, arXiv:1909.13595, section 4.1.
    """
    from scipy.special import ndtri

    scores: Array = ndtri(ranks(values) / len(values))
    return scores


def standard_scores(values: Array) -> Array:
    """Values with mean 0 and variance 1, the worst no worse than three standard deviations below the median.

    The deviation is that of a normal distribution with the same median distance to the median, which outliers do not
    change.
    """
    middle = np.median(values)
    near = 1.4826 * np.median(np.abs(values - middle))
    cut = np.maximum(values, middle - 3 * near) if near > 0 else values
    deviation = cut.std()
    scores: Array = (cut - cut.mean()) / (deviation if deviation > 0 else 1.0)
    return scores
