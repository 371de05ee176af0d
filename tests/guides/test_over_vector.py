"""Guides over the vector of latent choices: exact optima, gradients, and as parts of other programs."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import optax
import pytest
from jax.scipy.stats import gamma, norm
from numpyro.distributions import biject_to, constraints

import ppl
from ppl.guides import Flow, FullRank, LowRank, Transported, laplace

from .registry import small_flow

KEY = jax.random.key(7)


@ppl.gen
def pair():
    x = ppl.normal(0.0, 1.0) @ "x"
    y = ppl.normal(x, 0.5) @ "y"
    ppl.normal(x + y, 1.0) @ "z"


PAIR = pair().condition({"z": 1.5})
PRIOR = np.array([[1.0, 1.0], [1.0, 1.25]])
SEEN = np.ones((1, 2))
PRECISION = np.linalg.inv(PRIOR) + SEEN.T @ SEEN
COVARIANCE = np.linalg.inv(PRECISION)
MEAN = COVARIANCE @ SEEN[0] * 1.5
EVIDENCE = norm.logpdf(1.5, 0.0, np.sqrt(1.0 + (SEEN @ PRIOR @ SEEN.T).item()))


def bound(loc, factor):
    """The ELBO of a normal guide of `PAIR`, in closed form."""
    law = npd.MultivariateNormal(jnp.asarray(MEAN), jnp.asarray(COVARIANCE))
    spread = jnp.trace(jnp.asarray(PRECISION) @ factor @ factor.T) / 2
    entropy = jnp.sum(jnp.log(jnp.diagonal(factor))) + 1 + jnp.log(2 * jnp.pi)
    return EVIDENCE + law.log_prob(loc) - spread + entropy


def full_rank_bound(params):
    return bound(params["loc"], biject_to(constraints.lower_cholesky)(params["cholesky"]))


POINT = {"loc": jnp.array([0.3, -0.2]), "cholesky": jnp.array([0.4, -0.3, 0.2])}
GUIDE = FullRank(PAIR)


@ppl.gen
def nested_guide(params):
    GUIDE(params) @ "pair"


NESTED = ppl.gen(lambda: pair() @ "pair")().condition({"pair": {"z": 1.5}})


@pytest.mark.parametrize("name", ["elbo", "sticking_the_landing", "nested"])
def test_gradients_are_those_of_the_bound_in_closed_form(name):
    """Integrated over their own noise: no draws."""
    objective = {
        "elbo": lambda p: ppl.elbo(PAIR, GUIDE(p)),
        "sticking_the_landing": lambda p: ppl.sticking_the_landing(PAIR, GUIDE(p)),
        "nested": lambda p: ppl.sticking_the_landing(NESTED, nested_guide(p)),
    }[name]
    report = ppl.testing.check_unbiased(
        ppl.expectation(objective), (POINT,), key=KEY, against=full_rank_bound
    )
    assert report.method == "exact"


@pytest.mark.parametrize("name", ["vargrad", "dreg", "scored", "nested vargrad", "nested dreg"])
def test_gradients_of_several_particles(name):
    """Against the closed form, or the plain bound, by draws: five standard errors, 20,000 draws."""
    objective, truth = {
        "vargrad": (lambda p: ppl.vargrad(2)(PAIR, GUIDE(p)), full_rank_bound),
        "scored": (
            lambda p: ppl.elbo(PAIR, GUIDE(p).using({"*": ppl.estimators.Reinforce()})),
            full_rank_bound,
        ),
        "dreg": (lambda p: ppl.dreg(2)(PAIR, GUIDE(p)), None),
        "nested vargrad": (lambda p: ppl.vargrad(2)(NESTED, nested_guide(p)), full_rank_bound),
        "nested dreg": (lambda p: ppl.dreg(2)(NESTED, nested_guide(p)), None),
    }[name]
    draws = jax.jit(jax.vmap(lambda key: ppl.expectation(objective).grad(key, POINT)))
    found = draws(jax.random.split(KEY, 20_000))
    if truth is not None:
        wanted = jax.tree.map(lambda x: x[None], jax.grad(truth)(POINT))
    else:
        plain = ppl.expectation(lambda p: ppl.iwelbo(2)(PAIR, GUIDE(p)))
        wanted = jax.jit(jax.vmap(lambda key: plain.grad(key, POINT)))(jax.random.split(KEY, 20_000))
    for ours, theirs in zip(jax.tree.leaves(found), jax.tree.leaves(wanted), strict=True):
        error = jnp.sqrt(ours.var(0) / 20_000 + theirs.var(0) / 20_000)
        assert (abs(ours.mean(0) - theirs.mean(0)) < 5 * error).all()


@pytest.mark.parametrize("name", ["FullRank", "LowRank"])
def test_a_correlated_normal_is_reached_exactly(name):
    """There the bound is the evidence, whatever is drawn; mean field stays below by the closed form's gap."""
    guide = {"FullRank": GUIDE, "LowRank": LowRank(PAIR, rank=1)}[name]
    objective = ppl.expectation(lambda p: ppl.sticking_the_landing(PAIR, guide(p)))
    schedule = optax.cosine_decay_schedule(0.05, 1000)
    params = ppl.fit(
        objective, guide.initial(KEY), optax.adam(schedule), key=KEY, steps=1000, progress=False
    ).params
    np.testing.assert_allclose(guide.law(params).covariance_matrix, COVARIANCE, atol=2e-3)
    values = jax.jit(jax.vmap(lambda key: objective.estimate(key, params)))(jax.random.split(KEY, 100))
    np.testing.assert_allclose(values, EVIDENCE, atol=1e-2)
    gap = 0.5 * np.log(np.diag(PRECISION).prod() / np.linalg.det(PRECISION))
    assert gap > 0.15, "mean field does not reach it"


def test_laplace_is_exact_for_a_normal():
    found = laplace(PAIR, KEY)
    np.testing.assert_allclose([found.mode["x"], found.mode["y"]], MEAN, atol=1e-4)
    np.testing.assert_allclose(found.measure.law.covariance_matrix, COVARIANCE, atol=1e-4)
    np.testing.assert_allclose(found.log_normalizer, EVIDENCE, atol=1e-4)
    choices = {"x": 0.3, "y": -0.4}
    truth = npd.MultivariateNormal(jnp.asarray(MEAN), jnp.asarray(COVARIANCE)).log_prob(
        jnp.array([0.3, -0.4])
    )
    np.testing.assert_allclose(found.measure.log_density(choices), truth, atol=1e-4)
    np.testing.assert_allclose(GUIDE(found.params).log_density(choices), truth, atol=1e-4)


def test_laplace_of_a_skewed_posterior_is_stirlings_formula():
    """Counts with a gamma prior: in logarithms the mode of gamma(a, b) is log(a / b), its precision a."""

    @ppl.gen
    def counts():
        rate = ppl.gamma(3.0, 2.0) @ "rate"
        ppl.poisson(jnp.full(5, rate)) @ "n"

    seen = jnp.array([1, 2, 3, 0, 1])
    found = laplace(counts().condition({"n": seen}), KEY)
    np.testing.assert_allclose(found.mode["rate"], 10 / 7, rtol=1e-4)
    np.testing.assert_allclose(found.measure.law.scale_tril[0, 0], 10**-0.5, rtol=1e-3)
    evidence = gamma.logpdf(1.0, 3.0, scale=0.5) + 5 * -1.0 - jax.scipy.special.gammaln(seen + 1).sum()
    evidence -= gamma.logpdf(
        1.0, 10.0, scale=1 / 7
    )  # prior times likelihood over posterior, at a rate of one
    stirling = 0.5 * jnp.log(2 * jnp.pi) + 9.5 * jnp.log(10.0) - 10.0
    truth = evidence + stirling - jax.scipy.special.gammaln(10.0)
    np.testing.assert_allclose(found.log_normalizer, truth, atol=1e-4)


def test_laplace_where_rounding_leaves_the_precision_asymmetric():
    """Off its diagonal, by an orthogonal design, there is nothing but rounding."""
    design = np.linalg.qr(np.random.default_rng(0).normal(size=(6, 6)))[0]

    @ppl.gen
    def regression():
        x = ppl.normal(jnp.zeros(6), 1.0) @ "x"
        ppl.normal(jnp.asarray(design, float) @ x, 0.01) @ "y"

    seen = np.arange(6) / 10
    found = laplace(regression().condition({"y": jnp.asarray(seen, float)}), start={"x": jnp.zeros(6)})
    np.testing.assert_allclose(found.mode["x"], design.T @ seen / (1 + 1e-4), atol=1e-5)
    np.testing.assert_allclose(found.measure.law.covariance_matrix, np.eye(6) / 10_001, atol=1e-9)


def test_laplace_says_where_there_is_no_mode():
    @ppl.gen
    def saddle():
        ppl.normal(0.0, 1.0) @ "other"
        x = ppl.normal(0.0, 1.0) @ "x"
        ppl.normal(x**2, 0.1) @ "y"

    target = saddle().condition({"y": 1.0})
    with pytest.raises(
        ppl.UnsupportedProgram, match=r"not positive definite.*an eigenvalue is -\d.*along 'x'"
    ):
        laplace(target, start={"x": 0.0, "other": 0.0})
    far = ppl.gen(lambda: ppl.gamma(2.0, 1.0) @ "x")()
    with pytest.raises(ppl.UnsupportedProgram, match=r"after 0 steps the density .* still rises, by about"):
        laplace(far, start={"x": 1e6}, steps=0)
    with pytest.raises(ppl.UnsupportedProgram, match=r"`initial` .*inside a transformation such as jax.jit"):
        jax.jit(lambda key: laplace(target, key).log_normalizer)(KEY)
    with pytest.raises(ppl.UnsupportedProgram, match=r"laplace .*inside a transformation such as jax.jit"):
        jax.jit(lambda x: laplace(target, start={"x": x, "other": 0.0}).log_normalizer)(0.9)
    with pytest.raises(TypeError, match="needs a key"):
        laplace(target)


def test_a_flow_bends_where_mean_field_does_not():
    @ppl.gen
    def banana():
        x = ppl.normal(0.0, 1.0) @ "x"
        ppl.normal(x**2, 0.3) @ "y"

    target = banana()  # normalized: the bound is at most zero
    guide = Flow(target, small_flow)
    objective = ppl.expectation(lambda p: ppl.elbo(target, guide(p)))
    optimizer = optax.chain(
        optax.clip_by_global_norm(5.0), optax.adam(optax.cosine_decay_schedule(0.02, 600))
    )
    params = ppl.fit(
        objective,
        guide.initial(KEY, scale=1.0),
        optimizer,
        key=KEY,
        steps=600,
        num_samples=16,
        progress=False,
    ).params
    reached = objective.estimate(KEY, params, num_samples=2000)

    # The best independent normals, by the bound in closed form: E[(y - x^2)^2] under moments of normals.
    def independent(p):
        m, s, n, t = p[0], jnp.exp(p[1]), p[2], jnp.exp(p[3])
        fourth = m**4 + 6 * m**2 * s**2 + 3 * s**4
        error = fourth - 2 * (m**2 + s**2) * n + n**2 + t**2
        prior = -0.5 * (m**2 + s**2) - 0.5 * error / 0.09 - jnp.log(0.3)
        return prior + p[1] + p[3] + 1.0

    starts = jnp.array([[m, -1.0, m**2, -1.0] for m in (0.0, 0.5, 1.0)])
    climb = jax.jit(
        jax.vmap(lambda p: jax.lax.fori_loop(0, 4000, lambda _, p: p + 0.01 * jax.grad(independent)(p), p))
    )
    best = jax.vmap(independent)(climb(starts)).max()
    assert best < -0.5 < -0.25 < reached < 0.05


@ppl.gen
def branching():
    share = ppl.beta(2.0, 3.0) @ "share"
    extra = jax.lax.cond(share > 0.4, lambda: ppl.normal(0.0, 1.0) @ "extra", lambda: 0.0)
    ppl.normal(share + extra, 0.7) @ "y"


def test_a_choice_of_one_branch_is_integrated_out_where_it_is_not_made():
    """The density there is estimated without bias: its mean against the marginal in closed form."""
    latent = ppl.unconstrained(branching().condition({"y": 1.0}))
    covariance = jnp.array([[1.0, 0.6], [0.6, 0.8]])
    guide = Transported(latent, npd.MultivariateNormal(jnp.array([-0.3, 0.5]), covariance))
    keys = jax.random.split(KEY, 100_000)

    def estimates(share, extra):
        choices = {"share": share, "extra": extra}
        return jnp.exp(jax.vmap(lambda key: guide.log_density(choices, key=key))(keys))

    found = jax.jit(estimates)(0.3, 0.0)
    logit = jnp.log(0.3 / 0.7)
    truth = norm.pdf(logit, -0.3, 1.0) / 0.21
    assert found.std() > 0.1 * truth
    assert abs(found.mean() - truth) < 5 * found.std() / 100_000**0.5
    made = jax.jit(estimates)(0.5, 0.2)[:5]
    joint = npd.MultivariateNormal(jnp.array([-0.3, 0.5]), covariance).log_prob(jnp.array([0.0, 0.2]))
    np.testing.assert_allclose(made, jnp.exp(joint) / 0.25, rtol=1e-4)

    def weight(key):
        trace = guide.simulate(key)
        return jnp.exp(latent.target.log_density(trace.choices) - trace.log_density)

    weights = jax.jit(jax.vmap(weight))(keys)
    s = jnp.linspace(0.0, 1.0, 20_001)
    likelihood = jnp.where(s > 0.4, norm.pdf(1.0, s, (1 + 0.49) ** 0.5), norm.pdf(1.0, s, 0.7))
    evidence = jnp.trapezoid(jax.scipy.stats.beta.pdf(s, 2.0, 3.0) * likelihood, s)
    assert abs(weights.mean() - evidence) < 5 * weights.std() / 100_000**0.5
    with pytest.raises(ppl.UnsupportedProgram, match=r"makes 'extra' in some runs only.*MeanField"):
        ppl.detached(guide).log_density({"share": 0.3, "extra": 0.0})


def test_a_parameter_that_moves_an_end_of_the_support_is_seen():
    @ppl.gen
    def box(end):
        x = ppl.uniform(0.0, end) @ "x"
        ppl.normal(x, 1.0) @ "y"

    def objective(end, bound):
        target = box(end).condition({"y": 0.5})
        return bound(target, FullRank(target)({"loc": jnp.zeros(1), "cholesky": jnp.zeros(1)}))

    plain = ppl.expectation(lambda end: objective(end, ppl.elbo))
    z, w = np.polynomial.hermite_e.hermegauss(40)
    x = lambda end: end * jax.nn.sigmoid(z)  # of the standard normal; the entropy's change is log(end)
    truth = lambda end: jnp.sum(w * norm.logpdf(0.5, x(end), 1.0)) / w.sum()
    found = jax.jit(jax.vmap(lambda key: plain.grad(key, 2.0)))(jax.random.split(KEY, 20_000))
    assert abs(found.mean() - jax.grad(truth)(2.0)) < 5 * found.std() / 20_000**0.5
    for bound in (ppl.sticking_the_landing, ppl.vargrad(2)):
        with pytest.raises(
            ppl.PPLError, match=r"moves an end of the support of 'x'|at the edge of a support"
        ):
            ppl.expectation(lambda end, bound=bound: objective(end, bound)).grad(KEY, 2.0)


def test_as_a_part_of_a_program():
    trace = nested_guide(POINT).simulate(KEY)
    np.testing.assert_allclose(trace.log_density, GUIDE(POINT).log_density(trace.choices["pair"]), rtol=1e-5)
    lanes = ppl.gen(lambda: jax.vmap(lambda i: GUIDE(POINT) @ "pair")(jnp.arange(3)))()
    trace = lanes.simulate(KEY)
    each = jax.vmap(GUIDE(POINT).log_density)(trace.choices["pair"])
    np.testing.assert_allclose(trace.log_density, each.sum(), rtol=1e-5)
    assert jnp.unique(trace.choices["pair"]["x"]).size == 3
    with pytest.raises(ppl.UnsupportedProgram, match=r"'x'.*Condition the target"):
        GUIDE(POINT).condition({"x": 0.0})
    with pytest.raises(ppl.UnsupportedProgram, match="cannot be told apart"):
        GUIDE(POINT).simulate(KEY) and GUIDE(POINT).log_density({"x": 0.0})


def test_refusals():
    with pytest.raises(ppl.UnsupportedProgram, match=r"'n' .*is discrete.*MeanField"):
        FullRank(ppl.gen(lambda: ppl.poisson(3.0) @ "n")())
    with pytest.raises(ppl.UnsupportedProgram, match="no latent choice"):
        FullRank(ppl.gen(lambda: ppl.normal(0.0, 1.0) @ "y")().condition({"y": 0.5}))
    with pytest.raises(ValueError, match="at least one direction, got rank 0"):
        LowRank(PAIR, rank=0)
    with pytest.raises(TypeError, match=r"FullRank takes a generative function"):
        FullRank(ppl.normal(0.0, 1.0))
    latent = ppl.unconstrained(PAIR)
    with pytest.raises(
        TypeError, match=r"of event shape \(2,\) and no batch shape, got Normal of batch shape \(2,\)"
    ):
        Transported(latent, npd.Normal(jnp.zeros(2), 1.0))
    with pytest.raises(ValueError, match=r"has shape \(2,\), no condition"):
        Flow(PAIR, lambda key, base: small_flow(key, type(base)((3,))))
