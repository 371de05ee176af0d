"""What is known of the posteriors without any sampler: conjugacy, linear algebra, sums and quadrature."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from scipy import integrate, special, stats


class Moments(NamedTuple):
    """By address: the mean and the standard deviation of every entry."""

    mean: dict[str, Any]
    sd: dict[str, Any]


def _of(**laws: Any) -> Moments:
    """Of frozen distributions of SciPy."""
    return Moments({a: law.mean() for a, law in laws.items()}, {a: law.std() for a, law in laws.items()})


def coin(heads: Any) -> Moments:
    return _of(p=stats.beta(2 + heads.sum(), 2 + len(heads) - heads.sum()))


def counts(y: Any) -> Moments:
    return _of(rate=stats.gamma(1 + y.sum(), scale=1 / (1 + len(y))))


def regression(x: Any, y: Any, noise: float) -> Moments:
    covariance = np.linalg.inv(np.eye(x.shape[1]) + x.T @ x / noise**2)
    return Moments({"b": covariance @ x.T @ y / noise**2}, {"b": np.sqrt(np.diag(covariance))})


def unknown_noise(x: Any, y: Any, a: float, b: float) -> Moments:
    """Normal and inverse gamma: the coefficients are of a multivariate t."""
    precision = np.eye(x.shape[1]) + x.T @ x
    mean = np.linalg.solve(precision, x.T @ y)
    a, b = a + len(y) / 2, b + (y @ y - mean @ precision @ mean) / 2
    spread = np.sqrt(b / (a - 1) * np.diag(np.linalg.inv(precision)))
    variance = stats.invgamma(a, scale=b)
    return Moments({"b": mean, "variance": variance.mean()}, {"b": spread, "variance": variance.std()})


def local_level(y: Any, step: float, noise: float) -> Moments:
    """All levels are jointly Gaussian with the observations."""
    times = np.arange(1, len(y) + 1)
    prior = step**2 * np.minimum.outer(times, times)
    gain = np.linalg.solve(prior + noise**2 * np.eye(len(y)), prior).T
    return Moments({"x": gain @ y}, {"x": np.sqrt(np.diag(prior - gain @ prior))})


def eight_schools(y: Any, error: Any, third: str) -> Moments:
    """Given tau all is Gaussian, so that one integral is left; `third` is the address `"theta"` or `"z"`."""

    def given(tau: float) -> tuple[float, Any, Any]:
        """Log of the density of tau and the data; means and second moments of mu and the schools' own."""
        total = error**2 + tau**2
        precision = 1 / 25 + np.sum(1 / total)
        mu, var = np.sum(y / total) / precision, 1 / precision
        mass = stats.norm(0, 5).logpdf(mu) + stats.norm(mu, np.sqrt(total)).logpdf(y).sum()
        mass += 0.5 * np.log(2 * np.pi * var) - np.log1p((tau / 5) ** 2)
        # Of z = (theta - mu) / tau given mu: mean c (y - mu), variance error^2 / total.
        c, rest = tau / total, error**2 / total
        z, z_var = c * (y - mu), rest + c**2 * var
        theta, theta_var = mu + tau * z, tau**2 * rest + (1 - tau * c) ** 2 * var
        own, own_var = (theta, theta_var) if third == "theta" else (z, z_var)
        means = np.concatenate([[mu, tau], own])
        return mass, means, means**2 + np.concatenate([[var, 0], own_var])

    # tau = 5 tan(u), which turns the tail of its density into an end of an interval.
    nodes, weights = special.roots_legendre(800)
    u = (nodes + 1) * np.pi / 4
    rows = [given(5 * np.tan(x)) for x in u]
    log_mass = np.array([row[0] for row in rows]) - 2 * np.log(np.cos(u))
    share = weights * np.exp(log_mass - log_mass.max())
    share /= share.sum()
    mean = sum(s * row[1] for s, row in zip(share, rows, strict=True))
    sd = np.sqrt(sum(s * row[2] for s, row in zip(share, rows, strict=True)) - mean**2)
    return Moments(*({"mu": x[0], "tau": x[1], third: x[2:]} for x in (mean, sd)))


def banana(bend: float, width: float) -> Moments:
    return Moments({"x": 0.0, "y": 0.0}, {"x": 1.0, "y": np.sqrt(2 * bend**2 + width**2)})


def two_modes(y: float, loc: float, scale: float, noise: float) -> Moments:
    density = lambda x: stats.norm(loc, scale).pdf(x) * stats.norm(x**2, noise).pdf(y)
    moment = lambda power: _integral(lambda x: x**power * density(x))
    mean, square = moment(1) / moment(0), moment(2) / moment(0)
    return Moments({"x": mean}, {"x": np.sqrt(square - mean**2)})


def _integral(function: Callable[[float], float]) -> float:
    return integrate.quad(function, -6, 6, points=[-1.4, 0, 1.4], epsabs=1e-12)[0]


def change(y: Any, a: float, b: float) -> Moments:
    """For each year the rates are gamma, and the evidence is closed."""
    when = np.arange(len(y))
    events = np.concatenate([[0], np.cumsum(y)[:-1]])
    shapes = [a + events, a + y.sum() - events]
    rates = [b + when, b + len(y) - when]
    log_mass = sum(
        special.gammaln(shape) - shape * np.log(rate) for shape, rate in zip(shapes, rates, strict=True)
    )
    share = special.softmax(log_mass)
    firsts = [when, *(s / r for s, r in zip(shapes, rates, strict=True))]
    seconds = [when**2, *(s * (s + 1) / r**2 for s, r in zip(shapes, rates, strict=True))]
    mean = np.array([share @ x for x in firsts])
    sd = np.sqrt([share @ x for x in seconds] - mean**2)
    return Moments(*(dict(zip(("when", "early", "late"), x, strict=True)) for x in (mean, sd)))
