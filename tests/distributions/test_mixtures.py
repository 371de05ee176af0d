"""Mixtures: the law of their draws, and how these move, against Rosenblatt's transform written in SciPy.

A draw moves so that its distribution function, given the entries before it, stays. So
dx = -(du/dx)^-1 (du/dtheta), with u differentiated by central differences. No randomness decides, so
there are no false alarms.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.stats as st

import ppl
from ppl.distributions.density import log_density
from ppl.distributions.mixture_path import attach
from ppl.distributions.sampling import draw, is_reparameterized
from ppl.errors import EstimatorNotAdmitted, UnsupportedProgram
from ppl.estimators import Reinforce, Reparam
from ppl.estimators.registry import default_estimator
from ppl.noise import Noise
from ppl.testing.rules import trapezoid

from ..estimators.continuous import variance_ratio
from ..laws import oracles
from ..laws.flows import FLOWS
from ..laws.laws import check_exactly


def softmax(logits):
    weights = np.exp(logits - np.max(logits))
    return weights / weights.sum()


def logits(t):
    return jnp.stack([t, 0.0 * t, -0.5 * t])


# name: (from parameters to the mixture; parameters; from parameters to SciPy's weights and laws)
UNIVARIATE = {
    "normal": (
        lambda t, m, s: npd.MixtureSameFamily(
            npd.CategoricalLogits(logits(t)), npd.Normal(jnp.stack([m, -2.0, 4.0]), jnp.stack([s, 0.5, 1.5]))
        ),
        (0.4, 0.3, 0.8),
        lambda t, m, s: (softmax([t, 0, -t / 2]), [st.norm(m, s), st.norm(-2, 0.5), st.norm(4, 1.5)]),
    ),
    "normal_by_probs": (
        lambda p, m: npd.MixtureSameFamily(
            npd.CategoricalProbs(jnp.stack([p, 0.5])), npd.Normal(jnp.stack([m, -2.0]), 1.0)
        ),
        (0.5, 0.3),
        lambda p, m: (np.array([p, 0.5]) / (p + 0.5), [st.norm(m, 1), st.norm(-2, 1)]),
    ),
    "gamma": (
        lambda t, a, b: npd.MixtureSameFamily(
            npd.CategoricalLogits(jnp.stack([t, 0.0])), npd.Gamma(jnp.stack([a, 4.0]), jnp.stack([b, 1.0]))
        ),
        (0.4, 0.6, 1.2),
        lambda t, a, b: (softmax([t, 0]), [st.gamma(a, scale=1 / b), st.gamma(4)]),
    ),
    "beta": (
        lambda t, a, b: npd.MixtureSameFamily(
            npd.CategoricalLogits(jnp.stack([t, 0.0])), npd.Beta(jnp.stack([a, 4.0]), jnp.stack([b, 1.5]))
        ),
        (0.4, 0.6, 1.2),
        lambda t, a, b: (softmax([t, 0]), [st.beta(a, b), st.beta(4, 1.5)]),
    ),
    "student_t": (
        lambda t, df, m: npd.MixtureSameFamily(
            npd.CategoricalLogits(jnp.stack([t, 0.0])),
            npd.StudentT(jnp.stack([df, 9.0]), jnp.stack([m, 3.0])),
        ),
        (0.4, 2.6, -0.3),
        lambda t, df, m: (softmax([t, 0]), [st.t(df, m), st.t(9, 3)]),
    ),
    "expanded": (
        lambda t, s: npd.MixtureSameFamily(
            npd.CategoricalLogits(jnp.stack([t, 0.0])), npd.HalfNormal(s).expand([2])
        ),
        (0.4, 1.6),
        lambda t, s: (softmax([t, 0]), [st.halfnorm(scale=s)] * 2),
    ),
    "several_families": (
        lambda t, a, s: npd.MixtureGeneral(
            npd.CategoricalLogits(logits(t)), [npd.Gamma(a, 1.0), npd.LogNormal(0.1, s), npd.Weibull(1.3, a)]
        ),
        (0.4, 1.3, 0.7),
        lambda t, a, s: (
            softmax([t, 0, -t / 2]),
            [st.gamma(a), st.lognorm(s, scale=np.exp(0.1)), st.weibull_min(a, scale=1.3)],
        ),
    ),
}


def central(function, parameters, i, h=1e-4):
    at = lambda d: function(*(p + d * (i == j) for j, p in enumerate(parameters)))
    return (8 * (at(h) - at(-h)) - (at(2 * h) - at(-2 * h))) / (12 * h)


@pytest.mark.parametrize("family", UNIVARIATE)
def test_a_draw_stays_at_its_quantile(family, x64):
    make, parameters, law = UNIVARIATE[family]
    weights, laws = law(*parameters)
    x = np.concatenate([one.ppf([1e-3, 0.2, 0.7, 0.999]) for one in laws])
    x = x[np.isfinite(x)]
    density = sum(w * one.pdf(x) for w, one in zip(weights, laws, strict=True))
    assert is_reparameterized(make(*parameters))
    got = jax.jacfwd(lambda p: attach(jnp.asarray(x), make(*p)))(parameters)

    def tail(*p):
        weights, laws = law(*p)
        below = sum(w * one.cdf(x) for w, one in zip(weights, laws, strict=True))
        above = sum(w * one.sf(x) for w, one in zip(weights, laws, strict=True))
        return below, above

    for i in range(len(parameters)):
        below = central(lambda *p: tail(*p)[0], parameters, i)
        above = central(lambda *p: tail(*p)[1], parameters, i)
        truth = np.where(tail(*parameters)[0] < 0.5, -below, above) / density
        np.testing.assert_allclose(got[i], truth, rtol=1e-5, atol=1e-7)


LOW = np.array([[1.0, 0, 0], [0.4, 1.0, 0], [-0.3, 0.2, 0.8]])
MEANS = np.array([[-1.0, 0.5, 0.2], [1.0, 0.0, -0.6]])


def factors(s):
    return np.stack([LOW * np.exp(s), LOW[::-1, ::-1].T + 0.3 * s * np.eye(3)])


def vector_normal(t, m, s):
    tril = jnp.stack([LOW * jnp.exp(s), jnp.asarray(LOW[::-1, ::-1].T) + 0.3 * s * jnp.eye(3)])
    means = jnp.asarray(MEANS).at[0].add(m)
    return npd.MixtureSameFamily(
        npd.CategoricalLogits(jnp.stack([t, 0.0])), npd.MultivariateNormal(means, scale_tril=tril)
    )


def list_of_vectors(t, m, s):
    whole = vector_normal(t, m, s).component_distribution
    parts = [npd.MultivariateNormal(whole.loc[k], scale_tril=whole.scale_tril[k]) for k in range(2)]
    return npd.MixtureGeneral(npd.CategoricalLogits(jnp.stack([t, 0.0])), parts)


def independent_gammas(t, m, s):
    shapes = jnp.stack([jnp.exp(m) * jnp.array([1.0, 2.0, 0.5]), jnp.array([3.0, 0.7, 1.5])])
    return npd.MixtureSameFamily(
        npd.CategoricalLogits(jnp.stack([t, 0.0])), npd.Gamma(shapes, jnp.exp(s)).to_event(1)
    )


def normal_conditionals(x, t, m, s):
    """u_d for each d: the weights given the entries before times conditional distribution functions."""
    log_weights, u = np.log(softmax([t, 0])), []
    means = MEANS + np.array([[m], [0.0]])
    z = np.stack([np.linalg.solve(f, x - mean) for f, mean in zip(factors(s), means, strict=True)])
    for d in range(3):
        u.append(softmax(log_weights) @ st.norm.cdf(z[:, d]))
        log_weights = log_weights + st.norm.logpdf(z[:, d]) - np.log([f[d, d] for f in factors(s)])
    return np.array(u)


def gamma_conditionals(x, t, m, s):
    log_weights, u = np.log(softmax([t, 0])), []
    shapes = np.stack([np.exp(m) * np.array([1.0, 2.0, 0.5]), np.array([3.0, 0.7, 1.5])])
    for d in range(3):
        laws = [st.gamma(a[d], scale=np.exp(-s)) for a in shapes]
        u.append(softmax(log_weights) @ np.array([law.cdf(x[d]) for law in laws]))
        log_weights = log_weights + np.array([law.logpdf(x[d]) for law in laws])
    return np.array(u)


VECTORS = {
    "multivariate_normal": (vector_normal, normal_conditionals),
    "list_of_normals": (list_of_vectors, normal_conditionals),
    "independent_gammas": (independent_gammas, gamma_conditionals),
}


@pytest.mark.parametrize("family", VECTORS)
def test_a_vector_stays_at_its_conditional_quantiles(family, x64):
    make, conditionals = VECTORS[family]
    parameters = (0.4, 0.3, -0.2)
    xs = make(*parameters).sample(jax.random.key(1), (4,))
    got = jax.jacfwd(lambda p: attach(xs, make(*p)))(parameters)
    for n, x in enumerate(np.asarray(xs)):
        h = 1e-4 * np.maximum(np.abs(x), 0.1)
        columns = [
            (
                conditionals(x + h[d] * np.eye(3)[d], *parameters)
                - conditionals(x - h[d] * np.eye(3)[d], *parameters)
            )
            / (2 * h[d])
            for d in range(3)
        ]
        for i in range(3):
            turned = central(lambda *p, x=x: conditionals(x, *p), parameters, i)
            np.testing.assert_allclose(
                got[i][n], -np.linalg.solve(np.stack(columns, 1), turned), rtol=1e-4, atol=1e-6
            )


def test_batches_move_as_their_instances_do(x64):
    """Weights and components of unequal batch shapes; an event of two axes."""
    weights = jnp.array([[0.2, 0.8], [0.6, 0.4], [0.5, 0.5]])
    loc = jnp.arange(8.0).reshape(2, 2, 2) / 4
    make = lambda s: npd.MixtureSameFamily(npd.CategoricalProbs(weights), npd.Normal(loc, s).to_event(2))
    whole = make(1.3)
    assert whole.batch_shape == (3,) and whole.event_shape == (2, 2)
    x = draw(whole, Noise(jax.random.key(0)), (5,))
    moved = jax.jacfwd(lambda s: attach(x, make(s)))(1.3)
    for i in range(3):
        flat = lambda s, i=i: npd.MixtureSameFamily(
            npd.CategoricalProbs(weights[i]), npd.Normal(loc.reshape(2, 4), s).to_event(1)
        )
        alone = jax.jacfwd(lambda s, i=i, flat=flat: attach(x[:, i].reshape(5, 4), flat(s)))(1.3)
        np.testing.assert_allclose(moved[:, i].reshape(5, 4), alone, rtol=1e-10)


def test_reverse_mode_is_forward_mode(x64):
    make = lambda p: vector_normal(*p)
    x = make((0.4, 0.3, -0.2)).sample(jax.random.key(1), (3,))
    f = lambda p: attach(x, make(p))
    p = jnp.array([0.4, 0.3, -0.2])
    np.testing.assert_allclose(jax.jacrev(f)(p), jax.jacfwd(f)(p), rtol=1e-9)


# --- programs ---------------------------------------------------------------------------------------


def measure(t):
    loc = jnp.stack([t[..., 0], t[..., 1] - 1.0], axis=-1)
    scale = jnp.stack([0.8 * jnp.exp(0.3 * t[..., 1]), 0.5 + 0.0 * t[..., 0]], axis=-1)
    return ppl.mixture(ppl.normal(loc, scale), logits=jnp.stack([t[..., 0], 0.4 * t[..., 1]], axis=-1))


def mixed(x, t):
    weights = jax.nn.softmax(jnp.stack([t[0], 0.4 * t[1]]))
    first = jax.scipy.stats.norm.pdf(x, t[0], 0.8 * jnp.exp(0.3 * t[1]))
    return weights[0] * first + weights[1] * jax.scipy.stats.norm.pdf(x, t[1] - 1.0, 0.5)


LAW = oracles.continuous(mixed, np.linspace(-9.0, 9.0, 19))


@pytest.mark.parametrize("flow", ["straight", "cond", "custom_jvp"])
def test_reparameterized_normal_mixture_is_exact_to_the_second_derivative(flow):
    """Integrated over the component and the noise of both, against quadrature over the choice."""
    f = lambda x, t: (0.1 * x**3 + jnp.exp(0.3 * x)) * (1 + 0.3 * t[0] * t[1]) + 0.1 * x * t[1]
    choose = lambda t, address: measure(t) @ address
    made = FLOWS[flow]
    fine = {"normal": trapezoid(0.16)}
    check_exactly(made.program(choose, f), made.truth(LAW, f), draws=3, rules=fine)


def test_the_default_is_reparam_where_it_exists():
    assert isinstance(default_estimator(measure(jnp.zeros(2)).numpyro), Reparam)
    counts = ppl.mixture(ppl.poisson(jnp.array([1.0, 2.0])), probs=[0.5, 0.5])
    assert isinstance(default_estimator(counts.numpyro), Reinforce)
    with pytest.raises(EstimatorNotAdmitted, match="Reparam does not exist"):
        counts.using(Reparam())


def test_a_second_derivative_is_refused_where_a_component_has_one_only():
    program = ppl.expectation(
        lambda t: (ppl.mixture(ppl.gamma(jnp.stack([t, 2.0]), 1.0), probs=[0.5, 0.5]) @ "x") ** 2
    )
    assert jnp.isfinite(program.grad(jax.random.key(0), 1.5))
    with pytest.raises(UnsupportedProgram, match=r"second derivative .* gamma"):
        jax.hessian(lambda t: program.surrogate(jax.random.key(0), t))(1.5)


def affine(shift):
    return npd.TransformedDistribution(npd.Exponential(1.0), npd.transforms.AffineTransform(shift, 1.0))


HALF = npd.CategoricalProbs(jnp.array([0.5, 0.5]))
REFUSED = {
    "counts": lambda: npd.MixtureSameFamily(HALF, npd.Poisson(jnp.array([1.0, 2.0]))),
    "vectors whose entries depend": lambda: npd.MixtureSameFamily(HALF, npd.Dirichlet(jnp.ones((2, 3)))),
    "a family without distribution function": lambda: npd.MixtureSameFamily(
        HALF, npd.FoldedDistribution(npd.Normal(jnp.zeros(2), 1.0))
    ),
    "unequal supports": lambda: npd.MixtureGeneral(
        HALF, [npd.Normal(0.0, 1.0), npd.HalfNormal(1.0)], support=npd.constraints.real
    ),
    "supports with a gap": lambda: npd.MixtureGeneral(HALF, [npd.Uniform(0.0, 1.0), npd.Uniform(2.0, 3.0)]),
    "a support that moves": lambda: npd.MixtureGeneral(HALF, [affine(0.0), affine(2.0)]),
    "a masked component": lambda: npd.MixtureSameFamily(
        HALF, npd.Normal(jnp.zeros(2), 1.0).mask(jnp.array([True, False]))
    ),
}


@pytest.mark.parametrize("what", REFUSED)
def test_mixtures_without_a_path(what):
    law = REFUSED[what]()
    assert not is_reparameterized(law)
    x = draw(law, Noise(jax.random.key(0)), (3,))
    assert x.shape == (3, *law.batch_shape, *law.event_shape)


def test_draws_of_several_families_follow_their_law():
    make, parameters, law = UNIVARIATE["several_families"]
    x = np.asarray(jax.jit(lambda key: draw(make(*parameters), Noise(key), (20_000,)))(jax.random.key(0)))
    weights, laws = law(*parameters)
    assert (
        st.kstest(x, lambda x: sum(w * one.cdf(x) for w, one in zip(weights, laws, strict=True))).pvalue
        > 1e-6
    )


CDF, SF, PDF = lambda law, x: law.cdf(x), lambda law, x: law.sf(x), lambda law, x: law.pdf(x)


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_tails_and_distant_components_in_single_precision(scale):
    """Draws far out, and components that are all but impossible where the draw lies."""

    def value(t):
        loc = scale * jnp.stack([t, -50.0, 200.0, 0.0])
        law = npd.MixtureSameFamily(
            npd.CategoricalLogits(jnp.stack([t, 0.0, -30.0, -jnp.inf]), validate_args=False),
            npd.Normal(loc, scale * (1 + t**2)),
        )
        return attach(scale * jnp.array([-58.0, -50.0, 0.0, 9.0, 11.0, 208.0]), law)

    slope = jax.jacfwd(value)(0.2)
    x = np.array([-58.0, -50.0, 0.0, 9.0, 11.0, 208.0])

    def tails(t):
        weights = softmax(np.array([t, 0.0, -30.0]))
        laws = [st.norm(m, 1 + t**2) for m in (t, -50.0, 200.0)]
        return [sum(w * f(law, x) for w, law in zip(weights, laws, strict=True)) for f in (CDF, SF, PDF)]

    below, above, density = tails(0.2)
    h = 1e-4
    low, high = ((tails(0.2 + h)[k] - tails(0.2 - h)[k]) / (2 * h) for k in (0, 1))
    truth = np.where(below < above, -low, high) / density
    np.testing.assert_allclose(slope, scale * truth, rtol=2e-3)


def test_a_weight_of_zero_has_a_derivative(x64):
    x = jnp.array([-0.5, 0.3])

    def value(p):
        law = npd.MixtureSameFamily(
            npd.CategoricalProbs(jnp.stack([1 - p, p])), npd.Normal(jnp.array([0.0, 1.0]), 1.0).expand([2])
        )
        return attach(x, law)

    truth = -(st.norm.cdf(x - 1) - st.norm.cdf(x)) / st.norm.pdf(x)
    np.testing.assert_allclose(jax.jacfwd(value)(0.0), truth, rtol=1e-10)


def test_narrow_floats():
    law = npd.MixtureSameFamily(HALF, npd.Normal(jnp.array([0.0, 1.0], jnp.bfloat16), jnp.bfloat16(1.0)))
    x, slope = jax.jvp(
        lambda d: draw(d, Noise(jax.random.key(0))), (law,), (jax.tree.map(jnp.ones_like, law),)
    )
    assert x.dtype == slope.dtype == jnp.bfloat16 and jnp.isfinite(slope)


def test_log_density_of_a_draw_is_that_of_the_mixture():
    x = draw(vector_normal(0.4, 0.3, -0.2), Noise(jax.random.key(0)), (7,))
    weights, means = softmax([0.4, 0]), MEANS + np.array([[0.3], [0.0]])
    density = sum(
        w * st.multivariate_normal(m, f @ f.T).pdf(x)
        for w, m, f in zip(weights, means, factors(-0.2), strict=True)
    )
    np.testing.assert_allclose(log_density(vector_normal(0.4, 0.3, -0.2), x), np.log(density), rtol=1e-4)


def test_variance_is_less_than_that_of_the_score_function():
    def reward(estimator):
        return lambda t: (measure(t).using(estimator) @ "x" - 0.7) ** 2

    ratio, low, high = variance_ratio(reward, Reparam(), Reinforce(), jnp.array([0.35, -0.2]))
    print(f"{ratio:.3f} [{low:.3f}, {high:.3f}]")
    assert high < 1
