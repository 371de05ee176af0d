"""Marginal and normalized measures wherever measures stand: by keys, in programs, with other estimators."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from scipy.stats import chi2

import ppl
from ppl.estimators import Enumerate, Reinforce
from ppl.infer import Importance

from .enumerable import MEASURES, coin, coin_pair, guess, hidden_coin, laws_of, nested, twice

KEY = jax.random.key(7)
FALSE_ALARM = 1e-6


def mixture(a, particles=3):
    """A normal around a coin that is hidden."""

    @ppl.gen
    def either():
        u = ppl.flip(a) @ "u"
        ppl.normal(jnp.where(u, 1.0, -1.0), 1.0) @ "x"

    return ppl.marginal(either(), ["x"], particles=particles)


@pytest.mark.parametrize("name", ["twice", "lanes", "steps", "branches in lanes", "posterior, 2 particles"])
def test_draws_have_the_law_that_is_scored(name):
    """Hidden choices of two parts, lanes and steps are independent: 20,000 draws against the exact law."""
    values, laws = laws_of(MEASURES[name])
    measure, count = MEASURES[name](0.4), 20_000
    draws = jax.jit(jax.vmap(lambda k: measure.simulate(k).choices))(jax.random.split(KEY, count))
    known = [np.concatenate([np.ravel(x) for x in jax.tree.leaves(value)]) for value in values]
    flat = np.concatenate([np.reshape(x, (count, -1)) for x in jax.tree.leaves(draws)], axis=1)
    seen = np.array([(flat == value).all(axis=1).sum() for value in known])
    assert seen.sum() == count
    possible = laws.probability > 0
    expected = count * laws.probability[possible]
    assert not seen[~possible].any()
    statistic = ((seen[possible] - expected) ** 2 / expected).sum()
    assert statistic < chi2.isf(FALSE_ALARM, possible.sum() - 1)


@pytest.mark.parametrize("measure", [mixture(0.3), nested(0.3)], ids=["alone", "in a program"])
def test_outside_programs_a_density_is_estimated_by_a_key(measure):
    given = {"x": 0.4} if isinstance(measure, type(mixture(0.3))) else {"m": {"x": True}, "y": False}
    truth = (
        0.3 * norm.pdf(0.4, 1.0) + 0.7 * norm.pdf(0.4, -1.0)
        if "x" in given
        else (0.3 * 0.8 + 0.7 * 0.25) * 0.3
    )
    estimates = jax.vmap(lambda k: jnp.exp(measure.log_density(given, key=k)))(jax.random.split(KEY, 20_000))
    assert abs(estimates.mean() - truth) < 5 * estimates.std() / len(estimates) ** 0.5
    assert estimates.std() > 0
    with pytest.raises(ppl.errors.ChoiceOutsideProgram, match="give them a key"):
        measure.log_density(given)
    trace, weight = measure.generate(KEY, given)
    assert weight == trace.log_density
    assert dict(trace.choices.leaves()) == dict(ppl.Choices(given).leaves())


def test_lanes_and_steps_draw_what_the_unrolled_program_draws():
    @ppl.gen
    def rolled():
        jax.lax.scan(lambda s, _: ((hidden_coin(0.4) @ "m")["x"], None), True, None, length=4)

    @ppl.gen
    def unrolled():
        for step in range(4):
            hidden_coin(0.4) @ (str(step), "m")

    for key in jax.random.split(KEY, 8):
        one, other = rolled().simulate(key).choices, unrolled().simulate(key).choices
        np.testing.assert_array_equal(one["m", "x"], [other[str(step), "m", "x"] for step in range(4)])


def test_lanes_whose_parameters_agree_are_independent():
    @ppl.gen
    def many():
        jax.vmap(lambda _: mixture(0.4) @ "m")(jnp.arange(1000))

    x = many().simulate(KEY).choices["m", "x"]
    assert x.shape == (1000,) and len(np.unique(x)) == 1000


def test_values_are_returned_and_conditioned_on():
    trace = nested(0.4).simulate(KEY)
    assert set(dict(trace.choices.leaves())) == {("m", "x"), ("y",)}
    assert jax.jit(nested(0.4).simulate)(KEY).choices["m", "x"] == trace.choices["m", "x"]
    x = mixture(0.4).simulate(KEY)
    assert x.retval["x"] == x.choices["x"]
    given = nested(0.4).condition({"m": {"x": True}})
    density = jnp.exp(given.log_density({"y": True}, key=KEY))
    assert 0 < density < 1


# --- gradients -------------------------------------------------------------------------------------


@ppl.gen
def noisy():
    x = ppl.normal(0.0, 2.0) @ "x"
    ppl.normal(x, 1.0) @ "y"


def bound(guide):
    return ppl.expectation(lambda a: ppl.elbo(noisy().condition({"y": 0.7}), guide(a)))


@pytest.mark.parametrize("estimator", [None, Reinforce(), Enumerate()], ids=["default", "scored", "summed"])
@pytest.mark.parametrize("objective", ["elbo", "skewed", "posterior"])
def test_gradients_through_hidden_choices_are_unbiased(objective, estimator):
    """Coins, so that estimator and truth are sums: over the noise of the one, and over all choices."""

    def program(a):
        if objective == "elbo":
            return ppl.elbo(coin_pair(0.3).condition({"x": True, "v": False}), _kept_u(a))
        if objective == "posterior":
            trace = ppl.normalize(coin(a).condition({"x": True}), Importance(2, guess(a**2))).propose()
            return jnp.where(trace.choices["u"], 3.0, -1.0) * jnp.exp(trace.log_density) + trace.log_density
        trace = hidden_coin(a, 2).propose()
        return jnp.where(trace.choices["x"], jnp.exp(3 * trace.log_density), -10.0 * trace.log_density)

    def _kept_u(a):
        return ppl.marginal(coin(a), ["u"], particles=2)

    expectation = ppl.expectation(program)
    chosen = expectation if estimator is None else expectation.using({"*": estimator})
    report = ppl.testing.check_unbiased(chosen, (0.4,), key=KEY)
    assert report.method == "exact"


@pytest.mark.parametrize("place", ["alone", "lanes", "steps", "inner expectation"])
def test_a_marginal_may_be_a_choice_of_an_expectation(place):
    """Where only its draw counts: nothing is estimated, and estimators reach what is hidden."""

    def program(a):
        one = lambda p: jnp.where((hidden_coin(p) @ "m")["x"], 3.0, a)
        if place == "alone":
            return one(a) ** 2
        if place == "lanes":
            return jnp.exp(jnp.sum(jax.vmap(one)(jnp.stack([a, 0.7 * a]))))
        if place == "steps":
            return jax.lax.scan(lambda s, _: (s * one(a), None), 1.0, None, length=2)[0]
        return ppl.expect(one)(a)

    chance = lambda p: 0.8 * p + 0.25 * (1 - p)
    mean = lambda p, f, a: chance(p) * f(3.0) + (1 - chance(p)) * f(a)
    truth = {
        "alone": lambda a: mean(a, jnp.square, a),
        "lanes": lambda a: mean(a, jnp.exp, a) * mean(0.7 * a, jnp.exp, a),
        "steps": lambda a: mean(a, lambda x: x, a) ** 2,
        "inner expectation": lambda a: mean(a, lambda x: x, a),
    }[place]
    expectation = ppl.expectation(program)
    report = ppl.testing.check_unbiased(expectation, (0.4,), key=KEY, against=truth)
    assert report.method == "exact"


def test_a_hidden_normal_is_reparameterized():
    """The marginal of a sum of two normals is normal: at the best reverse program the bound is exact."""

    @ppl.gen
    def chain(scale):
        u = ppl.normal(0.0, scale) @ "u"
        ppl.normal(u, 1.0) @ "x"

    def exact_reverse(scale):
        shrink = scale**2 / (1 + scale**2)
        return lambda kept: ppl.gen(lambda: ppl.normal(kept["x"] * shrink, jnp.sqrt(shrink)) @ "u")()

    def guide(scale):
        return ppl.marginal(chain(scale), ["x"], exact_reverse(scale))

    @ppl.gen
    def direct(scale):
        ppl.normal(0.0, jnp.sqrt(1 + scale**2)) @ "x"

    value, slope = bound(guide).value_and_grad(KEY, 1.3, num_samples=50_000)
    truth_value, truth_slope = bound(direct).value_and_grad(KEY, 1.3, num_samples=50_000)
    np.testing.assert_allclose([value, slope], [truth_value, truth_slope], atol=0.05)
    np.testing.assert_allclose(
        guide(1.3).log_density({"x": 0.7}, key=KEY), norm.logpdf(0.7, 0, 2.69**0.5), rtol=1e-5
    )


def test_bounds_grow_with_the_inference():
    """HVI <= IWHVI(m), and DIWHVI(1, m) = IWHVI(m): Sobolev, Vetrov, 2019."""
    target = coin_pair(0.3).condition({"u": True, "v": False})

    def value(objective, particles):
        guide = lambda a: hidden_coin(a, particles)
        return float(ppl.expectation(lambda a: objective(target, guide(a))).exact(0.4))

    values = [value(ppl.elbo, particles) for particles in (1, 2, 4)]
    assert values[0] < values[1] < values[2]
    np.testing.assert_allclose(value(ppl.iwelbo(1), 2), values[1], rtol=1e-6)


# --- estimators and refusals ------------------------------------------------------------------------


def test_estimators_reach_hidden_choices():
    inside = ppl.gen(lambda a: hidden_coin(a) @ "m")
    for measure, address in ((hidden_coin(0.4), "u"), (inside(0.4), "m/u")):
        e = ppl.expectation(lambda a, m=measure, at=address: m.using({at: Reinforce()}).propose().log_density)
        assert jnp.isfinite(e.grad(KEY, 0.4))
        with pytest.raises(ppl.errors.UnknownAddress, match="'w'"):
            measure.using({"w": Reinforce()}).simulate(KEY) if address == "m/u" else ppl.expectation(
                lambda m=measure: m.using({"w": Reinforce()}).propose().log_density
            ).estimate(KEY)
    sampled = ppl.expectation(lambda: MEASURES["posterior, 3 particles"](0.4).propose().log_density)
    assert sampled.using({"particle": Reinforce()}).estimate(KEY) != 0.0


def test_refusals():
    target = coin(0.4).condition({"x": True})
    with pytest.raises(ppl.UnsupportedProgram, match=r"not normalized.*ppl\.normalize"):
        ppl.marginal(target, ["u"])
    with pytest.raises(ppl.errors.UnknownAddress, match=r"keeps 'z'.*it has 'u', 'x'"):
        ppl.marginal(coin(0.4), ["z"]).simulate(KEY)
    with pytest.raises(ValueError, match="at least one address"):
        ppl.marginal(coin(0.4), [])
    with pytest.raises(TypeError, match="takes a measure"):
        ppl.marginal(coin, ["x"])
    with pytest.raises(TypeError, match=r"algorithm of ppl\.infer"):
        ppl.normalize(target, 5)
    with pytest.raises(ValueError, match="at least one particle"):
        ppl.marginal(coin(0.4), ["x"], particles=0)
    with pytest.raises(ppl.errors.UnusedChoice, match="'u' is no choice of marginal"):
        hidden_coin(0.4).log_density({"u": True}, key=KEY)
    with pytest.raises(ppl.errors.MissingChoice, match="needs 'x'"):
        hidden_coin(0.4).log_density({}, key=KEY)
    with pytest.raises(ppl.errors.ChoiceShapeError, match=r"'x' has shape \(\)"):
        hidden_coin(0.4).log_density({"x": jnp.array([True, False])}, key=KEY)
    pair = MEASURES["posterior of nothing"](0.4)
    with pytest.raises(ppl.UnsupportedProgram, match="cannot be told apart"):
        pair.log_density({"u": True}, key=KEY)
    with pytest.raises(ppl.UnsupportedProgram, match="cannot be told apart"):
        ppl.gen(lambda: pair @ "p")().generate(KEY, {"p": {"u": True}})
    with pytest.raises(ppl.UnsupportedProgram, match="by a proposal over them"):
        ppl.marginal(ppl.gen(lambda: pair @ "p")(), [("p", "u")]).simulate(KEY)
    with pytest.raises(ppl.UnsupportedProgram, match="cannot be detached"):
        ppl.expectation(lambda a: ppl.detached(nested(a)).propose().log_density).estimate(KEY, 0.4)
    with pytest.raises(ppl.errors.ChoiceOutsideProgram, match="outside any program"):
        hidden_coin(0.4) @ "m"
    assert twice(0.4).simulate(KEY).choices["one", "x"].shape == ()


@ppl.gen
def part_of_a_guide(a):
    mixture(a) @ ()


@pytest.mark.parametrize("guide", [mixture, part_of_a_guide], ids=["alone", "in a program"])
def test_objectives_that_hold_a_density_fixed_refuse_an_estimate(guide):
    """The others are right with one; these would be silently biased."""
    target = noisy().condition({"y": 0.7})
    for objective in (ppl.elbo, ppl.iwelbo(2), ppl.objectives.renyi(0.5, 2), ppl.objectives.tempered()):
        assert jnp.isfinite(ppl.expectation(lambda a, o=objective: o(target, guide(a))).grad(KEY, 0.4))
    for objective in (
        ppl.sticking_the_landing, ppl.dreg(2), ppl.vargrad(2), ppl.vimco(2), ppl.objectives.wake_guide(2),
    ):  # fmt: skip
        with pytest.raises(ppl.UnsupportedProgram, match=r"estimated|are not known"):
            ppl.expectation(lambda a, o=objective: o(target, guide(a))).grad(KEY, 0.4)
