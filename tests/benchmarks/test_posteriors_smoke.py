"""The posteriors of `benchmarks/posteriors.py`: the programs have the moments that formulas give."""

import sys
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "benchmarks"))

import _posteriors_numpyro
import _posteriors_optimum
import _posteriors_ours
import posteriors
from _posteriors_method import QUICK, Cannot, Draws, moments
from _posteriors_problems import BLOOD, EFFECT, ERROR, POSTERIORS

GRIDS: dict[str, dict[str, Any]] = {
    "coin": {"p": np.linspace(0, 1, 2002)[1:-1]},
    "counts": {"rate": np.linspace(0.2, 1.2, 2000)},
    "banana": {"x": np.linspace(-6, 6, 400), "y": np.linspace(-3, 25, 1200)},
    "two modes": {"x": np.linspace(-6, 6, 4000)},
    "change point": {
        "when": np.arange(40), "early": np.linspace(0.5, 8, 150), "late": np.linspace(0.1, 4, 150),
    },
}  # fmt: skip


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", GRIDS)
def test_the_known_moments_are_those_of_the_program(name):
    """By the program's own density on a grid, which shares nothing with the formulas."""
    posterior, axes = POSTERIORS[name], GRIDS[name]
    grid = [x.ravel() for x in np.meshgrid(*axes.values(), indexing="ij")]
    points = {a: jnp.asarray(x) for a, x in zip(axes, grid, strict=True)}
    weights = jax.nn.softmax(jax.jit(jax.vmap(posterior.target.log_density))(points))
    found, truth = moments(Draws(points, weights)), posterior.moments()
    for address in axes:
        np.testing.assert_allclose(found.mean[address], truth.mean[address], rtol=2e-4, atol=2e-4)
        np.testing.assert_allclose(found.sd[address], truth.sd[address], rtol=1e-3)


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", ["regression", "local level"])
def test_the_mean_is_where_a_gaussian_target_has_its_mode(name):
    """The slope of the log density is zero at the mean, and its curvature the covariance's inverse."""
    posterior = POSTERIORS[name]
    truth = posterior.moments()
    fixed = {a: jnp.asarray(x, float) for a, x in truth.mean.items()}
    slope = jax.jit(jax.grad(posterior.target.log_density))(fixed)
    curvature = jax.jit(jax.hessian(posterior.target.log_density))(fixed)
    for address, x in slope.items():
        np.testing.assert_allclose(x, 0, atol=1e-5)  # data are in single precision
        sd = np.sqrt(np.diag(np.linalg.inv(-np.asarray(curvature[address][address]))))
        np.testing.assert_allclose(truth.sd[address], sd, rtol=1e-6)


@pytest.mark.usefixtures("x64")
def test_eight_schools_by_brute_force():
    """Given mu and tau schools are independent: a grid over the two, and one over each school."""
    target = POSTERIORS["eight schools"].target
    mus, taus = np.linspace(-14, 24, 96), 5 * np.tan(np.linspace(0.01, 1.5, 160))
    total = ERROR**2 + taus[:, None, None] ** 2
    fit = -0.5 * ((EFFECT - mus[:, None]) ** 2 / total + np.log(total)).sum(-1)
    log_mass = fit - 0.5 * (mus / 5) ** 2 - np.log1p((taus / 5) ** 2)[:, None]
    # The nodes of tau are even in the angle.
    log_mass += np.log(5 + taus**2 / 5)[:, None]
    share = np.exp(log_mass - log_mass.max())
    share /= share.sum()
    shrink = taus[:, None, None] ** 2 / total
    theta = mus[:, None] + shrink * (EFFECT - mus[:, None])
    truth = POSTERIORS["eight schools"].moments()
    np.testing.assert_allclose(truth.mean["mu"], (share * mus).sum(), rtol=0.01)
    np.testing.assert_allclose(truth.mean["tau"], (share * taus[:, None]).sum(), rtol=0.02)
    np.testing.assert_allclose(truth.mean["theta"], (share[..., None] * theta).sum((0, 1)), rtol=0.01)
    # The program's density, with the schools at their conditional means, is that of this grid.
    i, j = 40, 50
    there = {"mu": mus[j], "tau": taus[i], "theta": theta[i, j]}
    here = {"mu": mus[j + 9], "tau": taus[i], "theta": theta[i, j + 9]}
    ratio = target.log_density(there) - target.log_density(here)
    np.testing.assert_allclose(ratio, log_mass[i, j] - log_mass[i, j + 9], rtol=1e-6)


def test_every_method_runs():
    """One small posterior; and the reason why NumPyro has no draws of a discrete choice."""
    coin = POSTERIORS["coin"]
    for library in (_posteriors_ours, _posteriors_numpyro):
        for name in ("mean field", "Laplace"):
            draws = library.METHODS[name](coin, jax.random.key(0), QUICK._replace(steps=500))
            assert abs(moments(draws).mean["p"] - 0.64) < 0.06
    with pytest.raises(Cannot, match="summed out"):
        _posteriors_numpyro.METHODS["mean field"](POSTERIORS["change point"], jax.random.key(0), QUICK)


def test_an_error_is_a_cell_and_ours_tells_in_the_exit_status(monkeypatch, tmp_path, capsys):
    """Of a peer it is a note; what the file has is not measured again, what failed is."""
    calls = []

    def broken(posterior, key, sizes):
        calls.append("broken")
        raise ValueError("nothing\nat all")

    def right(posterior, key, sizes):
        calls.append("right")
        return Draws({"p": np.random.default_rng(0).beta(9, 5, 1000)})

    file = tmp_path / "found.jsonl"
    monkeypatch.setattr(posteriors, "LIBRARIES", {"ppl": {"NUTS": right}, "NumPyro": {"NUTS": broken}})
    posteriors.main(["coin"], quick=True, file=file)
    assert "NumPyro, NUTS: FAILED: ValueError: nothing" in capsys.readouterr().out
    monkeypatch.setattr(posteriors, "LIBRARIES", {"ppl": {"NUTS": right, "flow": broken}})
    with pytest.raises(SystemExit, match="1 bars are missed"):
        posteriors.main(["coin"], quick=True, file=file)
    assert "MISSED  coin, flow: ValueError: nothing" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        posteriors.main(["coin"], quick=True, file=file)
    assert calls == ["right", "broken", "broken", "broken"]


def test_the_best_normal_is_the_posterior_where_that_is_one():
    """Of a correlated normal posterior: all of it by a full covariance, its known shrinking by none."""
    posterior = POSTERIORS["regression"]
    truth, key = posterior.moments(), jax.random.key(0)
    full, independent = (
        moments(_posteriors_optimum.METHODS[name](posterior, key, QUICK))
        for name in ("full rank", "mean field")
    )
    np.testing.assert_allclose(full.mean["b"], truth.mean["b"], atol=2e-3 * truth.sd["b"].min())
    np.testing.assert_allclose(full.sd["b"], truth.sd["b"], rtol=5e-3)
    precision = 1 + (BLOOD**2).sum(0) / 0.9**2  # the diagonal, whose inverse mean field has as variances
    np.testing.assert_allclose(independent.sd["b"], precision**-0.5, rtol=5e-3)
