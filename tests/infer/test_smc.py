"""Sequential Monte Carlo: the laws of its estimates by enumeration, and filters with known answers."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.infer import SMC, Importance, Multinomial, Residual, Stratified, Systematic

from .enumerable import TRUE, coin, hidden_coin, laws_of

KEY = jax.random.key(11)
SEEN = jnp.array([True, False])


def emission(z):
    return jnp.where(z, 0.8, 0.25)


@ppl.gen
def hidden_markov(a, length=2):
    def step(z, _):
        z = ppl.flip(jnp.where(z, a, 0.3)) @ "z"
        ppl.flip(emission(z)) @ "y"
        return z, None

    jax.lax.scan(step, TRUE, None, length=length)


@ppl.gen
def guide(length=2):
    def step(z, _):
        z = ppl.flip(jnp.where(z, 0.6, 0.5)) @ "z"
        return z, None

    jax.lax.scan(step, TRUE, None, length=length)


@ppl.gen
def around(a):
    """Choices before, within and after the loop, which all depend on the first."""
    heads = ppl.flip(a) @ "heads"
    shifts = jnp.where(heads, jnp.array([0.1, 0.2]), 0.0)

    def step(z, shift):
        z = ppl.flip(jnp.where(z, 0.6, 0.3) + shift) @ "z"
        ppl.flip(jnp.where(heads, emission(z), 0.4)) @ "y"
        return z, z

    last, path = jax.lax.scan(step, heads, shifts)
    ppl.flip(jnp.where(path.all() & last, 0.9, 0.2)) @ "end"


@ppl.gen
def guide_around():
    heads = ppl.flip(0.45) @ "heads"

    def step(z, _):
        z = ppl.flip(jnp.where(z & heads, 0.6, 0.5)) @ "z"
        return z, None

    jax.lax.scan(step, heads, None, length=2)


@ppl.gen
def within(a):
    """A posterior over a chain, as a part of a program."""
    path = ppl.normalize(hidden_markov(a).condition({"y": SEEN}), SMC(2)) @ "path"
    ppl.flip(jnp.where(path["z"].all(), 0.9, 0.2)) @ "x"


def posterior(algorithm):
    return lambda a: ppl.normalize(hidden_markov(a).condition({"y": SEEN}), algorithm)


ENDS = {"y": SEEN, "end": TRUE}
MEASURES = {
    "1 particle": posterior(SMC(1)),
    "2 particles": posterior(SMC(2)),
    "guided": posterior(SMC(2, guide())),
    "guided by a function": posterior(SMC(2, lambda seen: guide())),
    "adaptive": posterior(SMC(2, threshold=0.9)),
    "moved": posterior(SMC(2, moves=1)),
    "moved, guided and adaptive": posterior(SMC(2, guide(), threshold=0.9, moves=1)),
    "one moved twice": posterior(SMC(1, moves=2)),
    "moved, parts around the loop": lambda a: ppl.normalize(around(a).condition(ENDS), SMC(1, moves=1)),
    "parts around the loop": lambda a: ppl.normalize(around(a).condition(ENDS), SMC(2)),
    "guided around the loop": lambda a: ppl.normalize(around(a).condition(ENDS), SMC(2, guide_around())),
    "a marginal": lambda a: ppl.marginal(hidden_markov(a), ["y"], SMC(2)),
    "part of a program": within,
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", MEASURES)
def test_both_estimates_are_unbiased(name, monkeypatch):
    monkeypatch.setattr("ppl.transforms.enumerate.JOINT_LIMIT", 1 << 17)
    _, laws = laws_of(MEASURES[name])
    assert (laws.probability > 0).all()
    np.testing.assert_allclose(laws.probability.sum(), 1, rtol=1e-10)
    np.testing.assert_allclose(laws.reciprocal, 1, rtol=1e-10)
    np.testing.assert_allclose(laws.density, laws.probability, rtol=1e-10)


def _evidence(a, seen):
    """By the forward algorithm."""
    alpha = np.array([0.0, 1.0])
    transition = np.array([[0.7, 0.3], [1 - a, a]])
    for y in np.asarray(seen):
        alpha = (alpha @ transition) * np.array([0.25, 0.8] if y else [0.75, 0.2])
    return alpha.sum()


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("algorithm", [SMC(2), SMC(2, guide(), threshold=0.8)], ids=["plain", "adaptive"])
def test_the_evidence_is_exact_in_expectation(algorithm):
    target = hidden_markov(0.4).condition({"y": SEEN})
    estimate = ppl.expectation(lambda: jnp.exp(algorithm.log_normalizer(target)))
    np.testing.assert_allclose(estimate.exact(), _evidence(0.4, SEEN), rtol=1e-10)


SCHEMES = [Multinomial(), Stratified(), Systematic(), Residual()]
LONG = jnp.arange(12) % 3 > 0


@pytest.mark.parametrize("threshold, moves", [(None, 0), (0.5, 0), (0.5, 2)])
@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: type(scheme).__name__)
def test_every_scheme_estimates_the_evidence_without_bias(scheme, threshold, moves):
    """4,000 runs of 20 particles; false alarm below 1e-5."""
    target = hidden_markov(0.4, 12).condition({"y": LONG})
    algorithm = SMC(20, resampling=scheme, threshold=threshold, moves=moves)
    estimate = ppl.expectation(lambda: jnp.exp(algorithm.log_normalizer(target)))
    runs = jax.jit(jax.vmap(estimate.estimate))(jax.random.split(KEY, 4000)) / _evidence(0.4, LONG)
    assert abs(runs.mean() - 1) < 4.5 * runs.std() / len(runs) ** 0.5
    assert runs.std() < 1.0


@pytest.mark.parametrize("scheme", SCHEMES, ids=lambda scheme: type(scheme).__name__)
def test_a_scheme_copies_a_particle_as_often_as_its_weight_says(scheme):
    weights = jnp.array([0.05, 0.4, 0.25, 0.3, 0.0])
    count = 7

    @ppl.expectation
    def copies(which):
        return jnp.sum(jnp.where(scheme.ancestors(jnp.log(weights), count) == which, 1.0, 0.0))

    keys = jax.random.split(KEY, 4000)
    counts = jax.jit(jax.vmap(lambda k: jax.vmap(lambda w: copies.estimate(k, w))(jnp.arange(5))))(keys)
    error = counts.std(axis=0) / len(keys) ** 0.5
    assert (jnp.abs(counts.mean(axis=0) - count * weights) <= 4.8 * error + 1e-6).all()
    assert (counts.sum(axis=1) == count).all()
    if isinstance(scheme, Systematic):
        assert (jnp.abs(counts - count * weights) < 1 + 1e-5).all()
    if isinstance(scheme, Residual):
        assert (counts >= jnp.floor(count * weights)).all()


@ppl.gen
def hidden_walk(length=2):
    def step(x, _):
        x = ppl.normal(x, 1.0) @ "x"
        ppl.normal(x, 0.5) @ "y"
        return x, None

    jax.lax.scan(step, 0.0, None, length=length)


def test_a_linear_gaussian_chain_is_filtered_as_kalman_does():
    seen = np.linspace(0.0, 3.0, 10)
    mean, variance = 0.0, 0.0
    for y in seen:
        variance += 1
        gain = variance / (variance + 0.25)
        mean, variance = mean + gain * (y - mean), variance * (1 - gain)
    target = hidden_walk(10).condition({"y": jnp.asarray(seen)})
    draws = jax.jit(jax.vmap(ppl.normalize(target, SMC(200, resampling=Systematic())).simulate))(
        jax.random.split(KEY, 2000)
    )
    last = draws.choices["x"][:, -1]
    assert draws.choices["x"].shape == (2000, 10)
    assert abs(last.mean() - mean) < 5 * (variance / 2000) ** 0.5
    assert abs(last.std() / variance**0.5 - 1) < 0.1


# --- gradients and refusals ------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", [SMC(2, guide()), SMC(1, guide(), moves=1)], ids=["plain", "moved"])
def test_gradients_through_resampling_are_unbiased(algorithm):
    """Exactly; the weights move with the parameter, and so do the ancestors, and what is accepted."""

    @ppl.expectation
    def bound(a):
        return algorithm.log_normalizer(hidden_markov(a).condition({"y": SEEN}))

    report = ppl.testing.check_unbiased(bound, (0.4,), key=KEY)
    assert report.method == "exact"


def test_the_filtering_bound_lies_between_the_elbo_and_the_evidence():
    """Exactly; one particle is the ELBO, and importance sampling is `iwelbo`."""
    target = hidden_markov(0.4).condition({"y": SEEN})
    value = lambda program: float(ppl.expectation(program).exact())
    elbo = value(lambda: ppl.elbo(target, guide()))
    filtering = value(lambda: SMC(2, guide()).log_normalizer(target))
    np.testing.assert_allclose(value(lambda: SMC(1, guide()).log_normalizer(target)), elbo, rtol=1e-6)
    assert elbo < filtering < np.log(_evidence(0.4, SEEN))
    two = value(lambda: Importance(2, guide()).log_normalizer(target))
    np.testing.assert_allclose(two, value(lambda: ppl.iwelbo(2)(target, guide())), rtol=1e-6)


def test_a_scheme_that_jumps_is_refused():
    @ppl.expectation
    def bound(a):
        algorithm = SMC(4, guide(), resampling=Systematic())  # whose weights depend on a
        return algorithm.log_normalizer(hidden_markov(a).condition({"y": SEEN}))

    assert jnp.isfinite(bound.estimate(KEY, 0.4))
    with pytest.raises(ppl.DiscontinuousReparameterization, match="ancestor"):
        bound.grad(KEY, 0.4)


def test_refusals():
    target = hidden_markov(0.4).condition({"y": SEEN})
    with pytest.raises(ValueError, match="at least one particle"):
        SMC(0)
    with pytest.raises(ValueError, match="threshold"):
        SMC(3, threshold=1.5)
    for moves in (-1, 1.5):
        with pytest.raises(ValueError, match="moves"):
            SMC(3, moves=moves)
    with pytest.raises(ppl.UnsupportedProgram, match=r"one lax\.scan.*found: none"):
        ppl.normalize(coin(0.4).condition({"x": True}), SMC(3)).simulate(KEY)
    with pytest.raises(ppl.UnsupportedProgram, match=r"resampling=Multinomial\(\)"):
        ppl.normalize(target, SMC(3, resampling=Systematic())).log_density({"z": SEEN}, key=KEY)
    with pytest.raises(ppl.UnsupportedProgram, match="has 3 steps"):
        ppl.normalize(target, SMC(3, guide(3))).simulate(KEY)
    with pytest.raises(ppl.errors.UnusedChoice, match="which is observed"):
        ppl.normalize(target, SMC(3, hidden_markov(0.3))).simulate(KEY)
    with pytest.raises(ppl.UnsupportedProgram, match="generative function"):
        ppl.normalize(hidden_coin(0.4), SMC(3)).simulate(KEY)

    @ppl.gen
    def backwards():
        jax.lax.scan(lambda s, _: (ppl.flip(0.4) @ "z", None), TRUE, None, length=2, reverse=True)

    with pytest.raises(ppl.UnsupportedProgram, match="runs in reverse"):
        ppl.normalize(backwards(), SMC(3)).simulate(KEY)

    @ppl.gen
    def estimated():
        jax.lax.scan(lambda s, _: ((hidden_coin(0.4) @ "m")["x"], None), TRUE, None, length=2)

    posterior = ppl.normalize(estimated(), SMC(3))
    choices = posterior.simulate(KEY).choices
    with pytest.raises(ppl.UnsupportedProgram, match="does not keep"):
        posterior.log_density(choices, key=KEY)


def test_all_particles_of_a_run():
    """Their weighted mean and the evidence, of a chain whose smoothed law is a sum over 16 paths."""
    target = hidden_markov(0.4, 4).condition({"y": LONG[:4]})
    paths = np.indices((2,) * 4).reshape(4, -1).T.astype(bool)
    weights = np.array(
        [np.exp(hidden_markov(0.4, 4).log_density({"z": path, "y": LONG[:4]})) for path in paths]
    )
    truth = weights @ paths / weights.sum()
    for algorithm in (SMC(1000), SMC(1000, moves=1), SMC(20_000, guide(4), Systematic(), threshold=0.5)):
        found = ppl.infer.run(target, algorithm, key=KEY)
        assert found.choices["z"].shape == (algorithm.particles, 4)
        np.testing.assert_allclose(
            found.mean(lambda c: c["z"].astype(float)), truth, atol=5 / algorithm.particles**0.5
        )
        np.testing.assert_allclose(found.log_normalizer, np.log(weights.sum()), atol=0.1)
        assert 1 <= found.effective <= algorithm.particles
        densities = jax.vmap(lambda z: target.log_density({"z": z}))(found.choices["z"])
        np.testing.assert_allclose(found.log_density, densities, rtol=1e-4)


def test_a_proposal_in_another_part_or_of_another_kind_is_refused():
    """Its values would be weighed in one part, and drawn once more in the other."""

    @ppl.gen
    def early():
        ppl.flip(0.9) @ "end"
        jax.lax.scan(lambda s, _: (s, ppl.flip(0.5) @ "z"), 0.0, None, length=2)

    @ppl.gen
    def real():
        jax.lax.scan(lambda s, _: (ppl.normal(s, 1.0) @ "z", None), 0.0, None, length=2)

    target = around(0.4).condition({"y": SEEN})
    with pytest.raises(ppl.UnsupportedProgram, match=r"'end'.*before the loop, the target after the loop"):
        ppl.infer.run(target, SMC(3, early()), key=KEY)
    with pytest.raises(ppl.errors.ChoiceShapeError, match=r"'z'.*dtype float.*target's.*bool"):
        ppl.infer.run(hidden_markov(0.4).condition({"y": SEEN}), SMC(3, real()), key=KEY)


def test_a_gradient_through_the_evidence_of_a_linear_gaussian_chain():
    """Against the Kalman filter, differentiated: 40,000 runs, 5 standard errors."""

    @ppl.gen
    def walk(a):
        def step(x, _):
            x = ppl.normal(a * x + 0.3, 1.0) @ "x"
            ppl.normal(x, 0.7) @ "y"
            return x, None

        jax.lax.scan(step, 0.5, None, length=3)

    seen = jnp.array([0.5, 1.0, -0.3])

    def evidence(a):
        mean, variance, total = 0.5, 0.0, 0.0
        for y in seen:
            mean, variance = a * mean + 0.3, a**2 * variance + 1.0
            total += jax.scipy.stats.norm.logpdf(y, mean, (variance + 0.49) ** 0.5)
            gain = variance / (variance + 0.49)
            mean, variance = mean + gain * (y - mean), variance * (1 - gain)
        return jnp.exp(total)

    def estimate(algorithm):
        return ppl.expectation(lambda a: jnp.exp(algorithm.log_normalizer(walk(a).condition({"y": seen}))))

    slope = estimate(SMC(4)).grad
    slopes = jax.jit(jax.vmap(lambda k: slope(k, 0.6)))(jax.random.split(KEY, 40_000))
    assert abs(slopes.mean() - jax.grad(evidence)(0.6)) < 5 * slopes.std() / len(slopes) ** 0.5
    for algorithm in (SMC(4, resampling=Residual()), SMC(4, threshold=0.7)):
        with pytest.raises(ppl.DiscontinuousReparameterization):
            estimate(algorithm).grad(KEY, 0.6)


@pytest.mark.parametrize("algorithm", [SMC(2, resampling=Residual()), SMC(2, guide(), Residual())])
def test_a_residual_of_nothing_has_a_finite_score(algorithm):
    """Particles of equal weight are copied once, and nothing is drawn. Finitely many draws have no jump."""
    bound = ppl.expectation(lambda a: algorithm.log_normalizer(hidden_markov(a).condition({"y": SEEN})))
    report = ppl.testing.check_unbiased(bound, (0.4,), key=KEY)
    assert report.method == "exact"


def test_moved_particles_are_no_longer_copies():
    """Of a step before the last; each has the law of the smoothed state still, by the sum over all paths."""
    target = hidden_walk().condition({"y": jnp.array([2.0, 2.0])})
    distinct, means = [], []
    for moves in (0, 3):
        found = ppl.infer.run(target, SMC(2000, moves=moves), key=KEY)
        first = found.choices["x"][:, 0]
        distinct.append(len(jnp.unique(first)))
        means.append(found.mean(lambda choices: choices["x"][0]))
    assert distinct[1] > 1.5 * distinct[0]
    # x1, x2 given y1 = y2 = 2, of noise 0.5: precision [[6, -1], [-1, 5]], linear term (8, 8)
    truth = np.linalg.solve([[6.0, -1.0], [-1.0, 5.0]], [8.0, 8.0])[0]
    np.testing.assert_allclose(means, truth, atol=0.06)


def test_a_loop_of_no_steps():
    empty = ppl.gen(lambda: jax.lax.scan(lambda s, x: (ppl.normal(s, x) @ "z", None), 0.0, jnp.zeros(0))[1])
    found = ppl.infer.run(empty(), SMC(3), key=KEY)
    assert found.choices["z"].shape == (3, 0) and found.log_normalizer == 0.0
