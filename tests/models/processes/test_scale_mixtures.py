"""Closed forms of the scale mixture against quadrature, SciPy and Monte Carlo; the programs against these."""

import json

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
from scipy import stats
from scipy.integrate import quad

from models.common.command import ran
from models.common.paper import Settings
from models.processes.kernels import angular, nngp, nngp_variance
from models.processes.scale_mixtures import classification, forecast, generic, regression, tasks
from models.processes.scale_mixtures.burr import BurrXII
from models.processes.scale_mixtures.conjugate import (
    Context,
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
    # By how much: with u = q / 2s it is (u^2 - n u + n (n - 2) / 4) / 2a, hence the tails of a = 1000.
    u, n, a = np.asarray(seen.quadratic) / 1.2, 6, 1e5
    leading = (u**2 - n * u + n * (n - 2) / 4) / (2 * a)
    np.testing.assert_allclose(log_evidence(Scale(a, 0.6 * a), seen) - gaussian, leading, rtol=1e-3)


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


LAW = BurrXII(3.0, 0.8, 0.5)


def over_scales(number: int, quadratic: float, power: int = 1, block: tuple[float, int] = (0.0, 0)) -> float:
    """int H(s) N(y; 0, s I)^power N(block; 0, s I) ds for Burr's H by SciPy, in u = log s."""
    truth = stats.burr12(3.0, 0.8, scale=0.5)

    def integrand(u: float) -> float:
        s = np.exp(u)
        normal = lambda q, n: np.exp(-q / (2 * s)) * (2 * np.pi * s) ** (-n / 2)
        return truth.pdf(s) * s * normal(quadratic, number) ** power * normal(*block)

    return sum(quad(integrand, low, low + 5, epsabs=0, epsrel=1e-9)[0] for low in range(-20, 20, 5))


@pytest.fixture(scope="module")
def drawn():
    """Weighted draws of Burr's scale for tasks of two sizes, by three proposals; compiled once for each."""
    near = generic.near(LAW)
    after = lambda *seen: generic.conjugate(near, *seen)
    proposals = {
        "prior": lambda *seen: LAW,
        "near": after,
        "both": lambda *seen: generic.defensive(LAW, after(*seen)),
    }
    number, quadratics = 6.0, jnp.array([0.3, 40.0])
    run = lambda proposal: jax.jit(jax.vmap(
        lambda key, q: generic.scales(LAW, number, q, proposal(number, q), key, 20_000)
    ))  # fmt: skip
    keys = jax.random.split(jax.random.key(0), 2)
    found = {name: run(proposal)(keys, quadratics) for name, proposal in proposals.items()}
    return [
        {name: jax.tree.map(lambda leaf, i=i: leaf[i], some) for name, some in found.items()} for i in (0, 1)
    ]


def test_weighted_draws_predict_like_quadrature_over_the_scale(drawn):
    """A block of three more, whose quadratic form is 2. So is the prior's effective share."""
    for i, quadratic in enumerate((0.3, 40.0)):
        truth = over_scales(6, quadratic, block=(2.0, 3)) / over_scales(6, quadratic)
        share = over_scales(6, quadratic) ** 2 / over_scales(6, quadratic, power=2)
        for name in ("prior", "both"):
            found = drawn[i][name]
            block = Context(jnp.array([2.0]), jnp.zeros((1, 3)), jnp.eye(3))
            value = float(generic.log_predictive(found, block)[0])
            # The weighted mean of the block's density, by the delta method: false by 6e-7.
            each = np.exp(log_evidence_given(found.choices["scale"], block))
            error = np.sqrt(np.sum(np.asarray(found.weights) ** 2 * (each - truth) ** 2)) / truth
            assert abs(value - np.log(truth)) < ERRORS * error and error < 0.1
        assert float(drawn[i]["prior"].effective) / 20_000 == pytest.approx(share, rel=0.15)


def test_half_of_the_draws_from_the_prior_bound_the_weights(drawn):
    """At most twice the likelihood's greatest value; the posterior's alone are not bounded so."""
    for i, quadratic in enumerate((0.3, 40.0)):
        # The greatest likelihood of a gamma of shape 3 and mean 6 s at q is at s = q / 6.
        greatest = stats.gamma(3, scale=2 * quadratic / 6).logpdf(quadratic)
        assert drawn[i]["both"].log_weights.max() <= greatest + np.log(2.0) + 1e-3
    shares = {name: float(found.effective) / 20_000 for name, found in drawn[1].items()}
    assert 0.3 < shares["both"] < shares["near"]
    assert shares["prior"] < 0.1


def test_the_posterior_as_a_proposal_has_equal_weights():
    law = npd.InverseGamma(1.7, 0.9)
    found = generic.scales(law, 6.0, 5.0, generic.conjugate(PRIOR, 6.0, 5.0), jax.random.key(0), 100)
    assert float(found.effective) == pytest.approx(100, rel=1e-4)


@pytest.mark.parametrize("name", ["Gaussian process", "mixture, collapsed"])
def test_what_is_predicted_is_the_quotient_of_scipys_densities(name):
    """Both protocols and readings; of the 924 and 220 contexts, one in 300."""
    params = {"weight": 1.0, "noise": 0.5, "scale": -1.0, "concentration": 0.6}
    y = np.random.default_rng(0).normal(size=(2, forecast.LENGTH))
    found = forecast.scores(tasks.METHODS[name].predict, params, y, every=300)
    with jax.enable_x64(True):
        double = jax.tree.map(jnp.float64, params)
        k = np.asarray(regression.kernel(double, jnp.asarray(forecast.times(), float)))
    a, ratio = np.exp(0.6), np.exp(-1.0)

    def log_density(some: list[int], row: np.ndarray) -> float:
        covariance = ratio * k[np.ix_(some, some)]
        if name == "Gaussian process":
            return stats.multivariate_normal(cov=covariance).logpdf(row[some])
        return stats.multivariate_t(shape=covariance, df=2 * a).logpdf(row[some])

    def readings(order: list[int], n: int, row: np.ndarray) -> list[float]:
        seen, others = order[:n], order[n:]
        jointly = log_density(order, row) - log_density(seen, row)
        alone = [log_density([*seen, one], row) - log_density(seen, row) for one in others]
        return [jointly / len(others), np.mean(alone)]

    for row, value in zip(y, found, strict=True):
        contexts = {
            n: [list(map(int, order)) for order in forecast.orders(n, 300)] for n in forecast.CONTEXTS
        }
        each = {n: np.array([readings(order, n, row) for order in some]) for n, some in contexts.items()}
        np.testing.assert_allclose(value[0], np.mean([some.mean(0) for some in each.values()], 0), rtol=1e-8)
        np.testing.assert_allclose(value[1], np.mean([some[0] for some in each.values()], 0), rtol=1e-8)
    assert contexts[9][0][:9] == list(range(9))


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
    figures = json.loads((tmp_path / "scale-mixtures.json").read_text())["figures"]
    ours, baseline = figures["fitted: mixture, collapsed"], figures["fitted: Gaussian process"]
    for name in ("s_w", "noise"):  # one kernel for both, to the last digit
        assert ours[name] == baseline[name]
    assert (tmp_path / "scale-mixtures.png").stat().st_size > 10_000
