"""Closed forms of the scale mixture against quadrature, SciPy and Monte Carlo; the programs against these."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.integrate import quad

from models.common.command import ran
from models.common.paper import Settings
from models.processes.kernels import angular, nngp, nngp_variance
from models.processes.scale_mixtures import classification, regression
from models.processes.scale_mixtures.burr import BurrXII
from models.processes.scale_mixtures.conjugate import (
    Scale,
    context,
    interpolated,
    kl_of_scales,
    log_evidence,
    log_evidence_given,
    posterior,
    predictive,
)

# A normal deviate passes five standard errors with probability 6e-7.
ERRORS = 5.0
PRIOR = Scale(1.7, 0.9)


@pytest.fixture(scope="module")
def covariance():
    x = np.linspace(-1, 1, 6)[:, None]
    return np.asarray(nngp(x, x, 0.7)) / 3 + 0.4 * np.eye(6)


Y = np.array([[0.5, -1.2, 2.0, 0.1, 0.7, -0.3], [3.0, 1.0, -4.0, 2.0, 0.5, 1.5]])


def inverse_gamma(scale: Scale) -> stats.rv_continuous:
    return stats.invgamma(scale.a, scale=scale.b)


def test_the_evidence_is_the_gaussian_one_integrated_over_the_scale(x64, covariance):
    found = log_evidence(PRIOR, context(jnp.asarray(covariance), jnp.asarray(Y)))
    for row, value in zip(Y, found, strict=True):

        def joint(u: float, row: np.ndarray = row) -> float:
            """In u = log s."""
            s = np.exp(u)
            return stats.multivariate_normal(cov=s * covariance).pdf(row) * inverse_gamma(PRIOR).pdf(s) * s

        truth, _ = quad(joint, -9, 9)
        assert value == pytest.approx(np.log(truth), abs=1e-7)
        t = stats.multivariate_t(shape=PRIOR.b / PRIOR.a * covariance, df=2 * PRIOR.a)
        assert value == pytest.approx(t.logpdf(row), abs=1e-9)


def test_the_prediction_is_the_quotient_of_evidences_and_has_the_mean_of_the_gaussian(x64, covariance):
    k = jnp.asarray(covariance)
    seen = context(k[:4, :4], jnp.asarray(Y[:, :4]))
    found = predictive(PRIOR, seen, k[:4, 4:], jnp.diag(k)[4:])
    mean, _ = interpolated(seen, k[:4, 4:], jnp.diag(k)[4:])
    np.testing.assert_allclose(found.mean, mean, atol=1e-12)
    for point in (0, 1):
        chosen = jnp.array([0, 1, 2, 3, 4 + point])
        joint = context(k[chosen][:, chosen], jnp.asarray(Y[:, chosen]))
        truth = log_evidence(PRIOR, joint) - log_evidence(PRIOR, seen)
        scale = np.sqrt(found.variance[:, point])
        t = stats.t(found.freedoms, found.mean[:, point], scale)
        np.testing.assert_allclose(t.logpdf(Y[:, 4 + point]), truth, atol=1e-9)


def test_a_scale_known_ever_better_gives_the_gaussian_process(x64, covariance):
    seen = context(jnp.asarray(covariance), jnp.asarray(Y))
    gaussian = log_evidence_given(0.6, seen)
    off = [np.abs(log_evidence(Scale(a, 0.6 * a), seen) - gaussian).max() for a in (1e3, 1e4, 1e5)]
    # The difference falls like 1 / a.
    assert off[0] / off[1] == pytest.approx(10, rel=0.05) and off[1] / off[2] == pytest.approx(10, rel=0.05)


def test_divergence_of_inverse_gamma_laws_is_that_of_quadrature(x64):
    guide = Scale(3.0, 2.5)
    q, p = inverse_gamma(guide), inverse_gamma(PRIOR)
    truth, _ = quad(lambda s: q.pdf(s) * (q.logpdf(s) - p.logpdf(s)), 1e-3, 200, limit=200)
    assert kl_of_scales(guide, PRIOR) == pytest.approx(truth, abs=1e-4)
    assert kl_of_scales(PRIOR, PRIOR) == pytest.approx(0, abs=1e-12)


def test_burr_is_scipys():
    values, truth = np.array([0.01, 0.5, 3.0, 40.0]), stats.burr12(1.6, 0.8, scale=2.0)
    law = BurrXII(1.6, 0.8, 2.0)
    np.testing.assert_allclose(law.log_prob(values), truth.logpdf(values), rtol=1e-4)
    drawn = law.sample(jax.random.key(0), (4000,))
    assert stats.kstest(np.asarray(drawn, np.float64), truth.cdf).pvalue > 1e-5


def test_the_kernel_is_the_covariance_of_relus_and_has_a_derivative_on_its_diagonal(x64):
    for cosine in (-0.8, 0.3, 1.0):
        # 2 E[relu(f) relu(f')] is an integral over the angle: Cho and Saul, 2009.
        angle = np.arccos(cosine)
        truth, _ = quad(
            lambda t, angle=angle: 2 * np.cos(t) * np.cos(t - angle) / np.pi, angle - np.pi / 2, np.pi / 2
        )
        assert angular(cosine) == pytest.approx(truth, abs=1e-12)
    x = jnp.array([[0.3, -1.0], [0.8, 0.2], [0.3, -1.0]])
    np.testing.assert_allclose(jnp.diag(nngp(x, x, 1.3)), nngp_variance(x, 1.3), rtol=1e-12)
    total = jax.jit(lambda z: jnp.sum(nngp(z, z, 1.3)))
    slope = jax.jit(jax.grad(total))(x)
    step = 1e-6 * jnp.array([[1.0, -2.0], [0.5, 1.0], [1.0, -2.0]])
    numeric = float(total(x + step) - total(x - step)) / 2
    assert float(jnp.sum(slope * step)) == pytest.approx(numeric, rel=1e-5)


def data() -> dict[str, jax.Array]:
    x = jnp.linspace(-1, 1, 6)[:, None]
    return {"y": jnp.asarray(Y, jnp.float32), "x": jnp.broadcast_to(x, (2, 6, 1))}


def exact_guide(params):
    """The parameters at which the guide of a task is its posterior."""
    prior = regression.prior_scale(params)
    return {"a": jnp.log(prior.a + 3), "b": jnp.log(prior.b), "slope": jnp.log(0.5)}


def test_at_the_posterior_every_bound_is_the_evidence_of_every_draw():
    params = regression.initial(6, concentration=0.5)
    params["guide"] = exact_guide(params)
    rows = data()
    seen = context(regression.kernel(params, rows["x"][0]), rows["y"])
    truth = jnp.mean(log_evidence(regression.prior_scale(params), seen))
    after = posterior(regression.prior_scale(params), seen)
    assert float(after.a) == pytest.approx(float(jnp.exp(params["guide"]["a"])))
    for objective in (regression.evidence, regression.implicit, regression.weighted):
        assert objective.estimate(jax.random.key(3), params, rows) == pytest.approx(float(truth), rel=1e-4)


def test_implicit_and_score_gradients_agree_with_that_of_the_closed_form():
    params = regression.initial(6, concentration=0.5)
    params["guide"] = {"a": jnp.log(3.0), "b": jnp.log(1.0), "slope": jnp.log(0.7)}
    rows = data()

    def elbo(params):
        """log p(y) - KL(guide || posterior), both in closed form."""
        seen = context(regression.kernel(params, rows["x"][0]), rows["y"])
        prior, phi = regression.prior_scale(params), jax.tree.map(jnp.exp, params["guide"])
        after = posterior(prior, seen)
        guide = Scale(phi["a"], phi["b"] + phi["slope"] * seen.quadratic)
        return jnp.mean(log_evidence(prior, seen) - kl_of_scales(guide, after))

    truth = jax.grad(elbo)(params)
    keys = jax.random.split(jax.random.key(7), 2000)
    spreads = []
    for objective in (regression.implicit, regression.scored):
        grads = jax.jit(jax.vmap(lambda k, objective=objective: objective.grad(k, params, rows)))(keys)
        for name in ("a", "slope"):
            each = grads["guide"][name]
            error = ERRORS * each.std() / len(keys) ** 0.5
            assert abs(each.mean() - truth["guide"][name]) < error
        each = grads["concentration"]
        assert abs(each.mean() - truth["concentration"]) < ERRORS * each.std() / len(keys) ** 0.5
        spreads.append(float(grads["guide"]["a"].std()))
    assert spreads[0] < 0.5 * spreads[1]


def test_the_classifiers_bound_is_that_of_its_program():
    random = np.random.default_rng(0)
    points = random.standard_normal((4, 3)).astype(np.float32)
    params = classification.initial(points, 50)
    params["mean"] = jnp.asarray(random.standard_normal((10, 4)), jnp.float32)
    params["root"] = jnp.asarray(0.3 * random.standard_normal((10, 4, 4)), jnp.float32)
    params["a"], params["ratio"] = jnp.log(3.0), jnp.array(0.3)
    batch = {
        "x": random.standard_normal((5, 3)).astype(np.float32),
        "label": np.array([0, 3, 9, 2, 3], np.int32),
    }
    keys = jax.random.split(jax.random.key(1), 4000)
    values = [
        jax.jit(jax.vmap(lambda k, bound=bound: bound.estimate(k, params, batch)))(keys)
        for bound in (classification.mixture_bound, classification.program_bound)
    ]
    error = sum(value.var() / len(keys) for value in values) ** 0.5
    assert abs(values[0].mean() - values[1].mean()) < ERRORS * error
    # Half the drawn variance is gone: this is the same number, and not the same program.
    assert values[0].std() < values[1].std()


def test_a_small_run_from_the_command_line(tmp_path, capsys):
    assert ran("scale-mixtures", Settings(seeds=(0,), quick=True, progress=False), tmp_path) == 0
    assert "mixture, collapsed" in capsys.readouterr().out
    assert (tmp_path / "scale-mixtures.png").stat().st_size > 10_000
