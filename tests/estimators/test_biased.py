"""The biased estimators: the bias is what theory says, and nobody gets it without asking.

Of one coin everything is known: the bias is computed by quadrature over the relaxed variable's density, or in
closed form, and compared with the estimator's expected value, integrated over its noise.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl import errors, families
from ppl.estimators import (
    Enumerate,
    Estimator,
    GumbelRao,
    GumbelSoftmax,
    Reinforce,
    Relax,
    Reparam,
    StraightThrough,
)
from ppl.estimators.registry import ESTIMATORS, admissible, default_estimator
from ppl.testing.integrate import integrate
from ppl.testing.rules import Rule, panels, tanh_sinh

from ..laws.laws import KEY, close

BIASED: dict[str, Estimator] = {
    "GumbelSoftmax": GumbelSoftmax(0.7),
    "StraightThrough": StraightThrough(),
    "StraightThrough-Gumbel": StraightThrough(0.7),
    "GumbelRao": GumbelRao(0.7, samples=2),
}
LOGIT = -0.4


def cost(b: Any) -> Any:
    return (b - 0.45) ** 2


TRUE = (0.55**2 - 0.45**2) * float(jax.nn.sigmoid(LOGIT) * jax.nn.sigmoid(-LOGIT))


def mean_slope(
    estimator: Estimator, f: Callable[[Any], Any] = cost, rules: Any = None
) -> tuple[float, float]:
    """The expected estimate of value and slope in the logit, over the estimator's noise."""
    objective = ppl.expectation(
        lambda t: f(jnp.asarray(ppl.bernoulli(logits=t).using(estimator) @ "b", float))
    )
    with jax.enable_x64(True):
        found = integrate(objective.value_and_grad, jax.random.key(KEY), jnp.asarray(LOGIT), rules=rules)
    return float(found.mean[0]), float(found.mean[1])


def relaxed_mean(function: Callable[[Any], Any], logit: Any) -> Any:
    """E function(z) of the logistic law, by quadrature over its density."""
    z, weights = panels(np.linspace(-60, 60, 121), 16)
    density = jax.nn.sigmoid(z - logit) * jax.nn.sigmoid(logit - z)
    return jnp.sum(weights * density * function(z))


@pytest.mark.parametrize("temperature", [0.3, 1.0, 3.0])
def test_gumbel_softmax_has_the_derivative_of_the_relaxed_program(temperature: float) -> None:
    with jax.enable_x64(True):
        relaxed = lambda t: relaxed_mean(lambda z: cost(jax.nn.sigmoid(z / temperature)), t)
        value, slope = map(float, jax.value_and_grad(relaxed)(LOGIT))
    rules = {"uniform": tanh_sinh(1 / 32)}  # the colder, the steeper
    assert mean_slope(GumbelSoftmax(temperature), rules=rules) == pytest.approx((value, slope), abs=1e-8)
    assert abs(slope - TRUE) > 1e-3


def test_the_bias_of_gumbel_softmax_vanishes_with_the_temperature() -> None:
    """To first order: at half the temperature, half the bias."""
    rules = {"uniform": tanh_sinh(1 / 200)}
    bias = [mean_slope(GumbelSoftmax(t), rules=rules)[1] - TRUE for t in (1 / 4, 1 / 8, 1 / 16, 1 / 32)]
    assert bias[0] == pytest.approx(-0.011, abs=1e-3)
    assert all(0.4 < b / a < 0.6 for a, b in itertools.pairwise(bias))


def test_straight_through_has_the_bias_of_its_closed_form() -> None:
    """The estimate is f'(b) dp; the truth f(1) - f(0) times dp."""
    p = float(jax.nn.sigmoid(LOGIT))
    value, slope = mean_slope(StraightThrough())
    assert value == pytest.approx(p * 0.55**2 + (1 - p) * 0.45**2, abs=1e-7)
    assert slope == pytest.approx((p * 2 * 0.55 - (1 - p) * 2 * 0.45) * p * (1 - p), abs=1e-7)


def test_straight_through_is_unbiased_for_a_linear_integrand() -> None:
    p = float(jax.nn.sigmoid(LOGIT))
    assert mean_slope(StraightThrough(), lambda b: 3.0 * b - 1.0)[1] == pytest.approx(
        3.0 * p * (1 - p), abs=1e-7
    )


@pytest.mark.parametrize(
    "estimator", [StraightThrough(0.7), GumbelRao(0.7, samples=1), GumbelRao(0.7, samples=2)]
)
def test_straight_through_gumbel_and_gumbel_rao_have_one_bias(estimator: Estimator) -> None:
    """f'(b) times the derivative of the relaxed value, averaged over the relaxed variable."""
    with jax.enable_x64(True):
        soft = lambda z: jax.nn.sigmoid(z / 0.7)
        slope = jax.vmap(jax.grad(soft))
        z = lambda z: jax.vmap(jax.grad(cost))(jnp.where(z > 0, 1.0, 0.0)) * slope(z)
        wanted = relaxed_mean(z, LOGIT)
    p = float(jax.nn.sigmoid(LOGIT))
    value, found = mean_slope(estimator, rules={"uniform": tanh_sinh(1 / 10)})
    assert value == pytest.approx(p * 0.55**2 + (1 - p) * 0.45**2, abs=1e-7)
    assert found == pytest.approx(float(wanted), abs=1e-7)
    assert abs(found - TRUE) > 1e-3


LOGITS = jnp.array([2.0, 0.0, 0.3])
VALUES = jnp.array([1.0, 2.0, 5.0])


def category_slopes(estimator: Estimator, count: int = 20_000, power: int = 2) -> np.ndarray:
    @ppl.expectation
    def objective(logits: Any) -> Any:
        return (families.one_hot_categorical(logits=logits).using(estimator) @ "b" @ VALUES) ** power

    keys = jax.random.split(jax.random.key(KEY), count)
    return np.asarray(jax.jit(jax.vmap(objective.grad, in_axes=(0, None)))(keys, LOGITS), np.float64)


def test_straight_through_of_a_category_is_unbiased_for_a_linear_integrand() -> None:
    p = np.asarray(jax.nn.softmax(LOGITS))
    close("slope", category_slopes(StraightThrough(), power=1), p * (VALUES - p @ VALUES))


def test_gumbel_rao_keeps_the_mean_of_straight_through_gumbel_and_lowers_its_variance() -> None:
    """The difference of the means of independent draws is zero; the ratio of variances is below one."""
    through, averaged = category_slopes(StraightThrough(0.3)), category_slopes(GumbelRao(0.3, samples=30))
    error = np.sqrt((through.var(axis=0) + averaged.var(axis=0)) / len(through))
    assert np.all(np.abs(through.mean(axis=0) - averaged.mean(axis=0)) < 5 * error)
    generator = np.random.default_rng(0)
    ratios = []
    for _ in range(300):
        rows = generator.integers(len(through), size=len(through))
        ratios.append(averaged[rows].var(axis=0).sum() / through[rows].var(axis=0).sum())
    low, high = np.quantile(ratios, [0.005, 0.995])
    print(f"Gumbel-Rao / straight-through Gumbel: {low:.3f} to {high:.3f}")
    assert high < 0.9


def test_the_relaxed_category_has_the_concrete_law() -> None:
    """P(x_0 > x_1) of the relaxed vector is that of the categories alone: p_0 / (p_0 + p_1)."""
    model = ppl.gen(lambda: families.one_hot_categorical(logits=LOGITS).using(GumbelSoftmax(0.7)) @ "b")
    objective = ppl.expectation(
        lambda: ppl.continuous(lambda b: jnp.where(b[0] > b[1], 1.0, 0.0))(model().propose().retval)
    )
    draws = np.asarray(jax.vmap(objective.estimate)(jax.random.split(jax.random.key(KEY), 100_000)))
    close("probability", draws[:, None], float(jax.nn.sigmoid(LOGITS[0] - LOGITS[1])))


# --- never by accident ----------------------------------------------------------------------------

DISCRETE = {
    "flip": lambda: families.flip(0.3),
    "bernoulli": lambda: families.bernoulli(0.3),
    "categorical": lambda: families.categorical([0.2, 0.8]),
    "one_hot_categorical": lambda: families.one_hot_categorical([0.2, 0.8]),
    "poisson": lambda: families.poisson(2.0),
}


@pytest.mark.parametrize("family", DISCRETE)
def test_no_default_is_biased_and_none_is_listed_with_the_unbiased(family: str) -> None:
    distribution = DISCRETE[family]().numpyro
    assert not default_estimator(distribution).biased
    names = {e.usage for e in ESTIMATORS if e.biased}
    assert len(names) == 4
    assert not names & set(admissible(distribution))
    assert set(admissible(distribution, biased=True)) == (names if family in FLOATS else {"Unscored()"})


FLOATS = ("flip", "bernoulli", "one_hot_categorical")


def test_a_message_lists_them_apart() -> None:
    with pytest.raises(errors.EstimatorNotAdmitted) as error:
        ppl.flip(0.3).using(Reparam())
    unbiased, biased = str(error.value).split("; biased: ")
    assert "This family admits Enumerate(), MeasureValued()," in unbiased and "Relax(control)" in unbiased
    assert biased == "GumbelSoftmax(temperature), GumbelRao(temperature), StraightThrough(), Unscored()."
    assert not any(name.split("(")[0] in unbiased for name in biased.rstrip(".").split(", "))


@pytest.mark.parametrize("name", BIASED)
def test_they_say_so(name: str) -> None:
    assert BIASED[name].biased and (type(BIASED[name]).__doc__ or "").startswith("BIASED")


# --- dtypes ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", BIASED)
@pytest.mark.parametrize("family", ["flip", "bernoulli", "one_hot_categorical"])
@pytest.mark.parametrize("dtype", [jnp.float32, jnp.bfloat16])
def test_values_are_floats_of_the_parameters_dtype(name: str, family: str, dtype: Any) -> None:
    def program(p: Any) -> Any:
        make = getattr(families, family)
        x = make(jnp.stack([p, 1 - p]) if family == "one_hot_categorical" else p).using(BIASED[name]) @ "x"
        assert x.dtype == dtype
        return jnp.sum(x).astype(float)

    assert jnp.isfinite(ppl.expectation(program).grad(jax.random.key(KEY), jnp.asarray(0.25, dtype)))


@pytest.mark.parametrize("name", BIASED)
def test_chosen_from_outside_for_a_coin_it_is_refused(name: str) -> None:
    """The program around the choice was staged for truth values."""
    model = ppl.gen(lambda p: ppl.flip(p) @ "win")
    with pytest.raises(errors.EstimatorNotAdmitted, match=r"'win' \(flip.*bool.*one_hot_categorical"):
        program = lambda p: 1.0 * model(p).using({"win": BIASED[name]}).propose().retval
        ppl.expectation(program).grad(jax.random.key(KEY), 0.4)


@pytest.mark.parametrize("name", BIASED)
def test_chosen_from_outside_for_a_one_hot_category_it_works(name: str) -> None:
    make = lambda t: families.one_hot_categorical(logits=jnp.stack([t, -t]))
    model = ppl.gen(lambda t: make(t) @ "k")
    outside = ppl.expectation(lambda t: model(t).using({"k": BIASED[name]}).propose().retval[0] ** 2)
    inside = ppl.expectation(lambda t: (make(t).using(BIASED[name]) @ "k")[0] ** 2)
    keys = jax.random.split(jax.random.key(KEY), 2000)
    found, wanted = (
        np.stack(jax.vmap(lambda k, o=o: o.value_and_grad(k, 0.3))(keys)) for o in (outside, inside)
    )
    error = np.sqrt((found.var(axis=1) + wanted.var(axis=1)) / len(keys))
    assert np.all(np.abs(found.mean(axis=1) - wanted.mean(axis=1)) < 5 * error)
    assert np.any(found[1] != 0)


def test_an_unbiased_estimator_from_outside_for_a_relaxed_coin_is_refused_too() -> None:
    model = ppl.gen(lambda p: ppl.flip(p).using(GumbelSoftmax(0.5)) @ "win")
    with pytest.raises(errors.EstimatorNotAdmitted, match=r"Reinforce.*dtype bool.*dtype float32"):
        ppl.expectation(lambda p: model(p).using({"win": Reinforce()}).propose().retval).grad(
            jax.random.key(KEY), 0.4
        )


@pytest.mark.parametrize("name", BIASED)
def test_a_category_by_index_cannot_be_relaxed(name: str) -> None:
    with pytest.raises(errors.EstimatorNotAdmitted, match=r"one_hot_categorical"):
        ppl.categorical([0.3, 0.7]).using(BIASED[name])


# --- draws and densities --------------------------------------------------------------------------


@ppl.gen
def relaxed_coin(p: Any) -> Any:
    return 2.0 * (ppl.flip(p).using(GumbelSoftmax(0.5)) @ "b")


def test_a_simulated_coin_is_of_the_discrete_program() -> None:
    traces = jax.vmap(lambda k: relaxed_coin(0.3).simulate(k))(jax.random.split(jax.random.key(KEY), 100))
    assert set(np.unique(traces.retval)) == {0.0, 2.0} and traces.retval.dtype == jnp.float32
    density = np.where(traces.retval == 2.0, np.log(0.3), np.log(0.7))
    np.testing.assert_allclose(traces.log_density, density, rtol=1e-6)


def test_exact_is_of_the_discrete_program() -> None:
    objective = ppl.expectation(lambda p: (relaxed_coin(p) @ "c") ** 2)
    np.testing.assert_allclose(objective.exact(0.3), 1.2, rtol=1e-6)


@pytest.mark.parametrize("value", [0.0, 0.25, 1.0])
def test_the_density_of_a_relaxed_coin_is_linear(value: float) -> None:
    wanted = value * np.log(0.3) + (1 - value) * np.log(0.7)
    np.testing.assert_allclose(relaxed_coin(0.3).log_density({"b": value}), wanted, rtol=1e-6)
    assert relaxed_coin(0.3).log_density({"b": 1.5}) == relaxed_coin(0.3).log_density({"b": -0.5}) == -jnp.inf
    sure = relaxed_coin(0.0).log_density({"b": value})
    assert sure == (0.0 if value == 0 else -jnp.inf)


def test_an_elbo_with_relaxed_choices_is_that_of_the_linear_densities() -> None:
    """Model and guide both name the estimator; the expected value against quadrature."""

    @ppl.gen
    def model() -> Any:
        b = ppl.flip(0.7).using(GumbelSoftmax(0.8)) @ "b"
        ppl.normal(2 * b, 1.0) @ "y"

    @ppl.gen
    def guide(t: Any) -> Any:
        ppl.bernoulli(logits=t).using(GumbelSoftmax(0.8)) @ "b"

    @ppl.expectation
    def elbo(t: Any) -> Any:
        trace = guide(t).propose()
        return model().condition({"y": 1.3}).log_density(trace.choices) - trace.log_density

    def terms(t: Any) -> Callable[[Any], Any]:
        def at(z: Any) -> Any:
            b = jax.nn.sigmoid(z / 0.8)
            likelihood = -0.5 * (1.3 - 2 * b) ** 2 - 0.5 * jnp.log(2 * jnp.pi)
            prior = b * jnp.log(0.7) + (1 - b) * jnp.log(0.3)
            return likelihood + prior - b * jax.nn.log_sigmoid(t) - (1 - b) * jax.nn.log_sigmoid(-t)

        return at

    with jax.enable_x64(True):
        wanted = jax.value_and_grad(lambda t: relaxed_mean(terms(t), t))(LOGIT)
        found = integrate(
            elbo.value_and_grad, jax.random.key(KEY), jnp.asarray(LOGIT), rules={"uniform": tanh_sinh(1 / 16)}
        ).mean
    np.testing.assert_allclose(found, wanted, atol=1e-7)


def test_importance_weights_of_relaxed_categories_pass() -> None:
    """Drawn on the simplex and scored there, they cross no edge, though the weight is exponentiated."""

    def program(t: Any) -> Any:
        guide = families.one_hot_categorical(logits=jnp.stack([t, -t])).using(GumbelSoftmax(0.5))
        trace = guide.propose()
        return jnp.exp(families.one_hot_categorical([0.3, 0.7]).log_density(trace.retval) - trace.log_density)

    assert jnp.isfinite(ppl.expectation(program).grad(jax.random.key(KEY), 0.3))


# --- the check for jumps --------------------------------------------------------------------------


@pytest.mark.parametrize("name", BIASED)
@pytest.mark.parametrize(
    "jump", [lambda b: jnp.where(b > 0.5, 1.0, 0.0), jnp.round, lambda b: (b + 0.2).astype(int)]
)
def test_a_jump_after_a_biased_choice_is_refused(name: str, jump: Any) -> None:
    """The derivative would not be biased, but zero."""
    with pytest.raises(errors.DiscontinuousReparameterization, match="'win'"):
        program = lambda p: 1.0 * jump(ppl.flip(p).using(BIASED[name]) @ "win")
        ppl.expectation(program).grad(jax.random.key(KEY), 0.4)


@pytest.mark.parametrize("name", BIASED)
def test_other_choices_are_checked_as_ever(name: str) -> None:
    def program(p: Any, jumps: bool) -> Any:
        b = ppl.flip(p).using(BIASED[name]) @ "b"
        x = ppl.normal(p, 1.0) @ "x"
        return b * (jnp.where(x > 0.0, 1.0, 0.0) if jumps else x)

    with pytest.raises(errors.DiscontinuousReparameterization, match=r"the choice 'x'"):
        ppl.expectation(lambda p: program(p, True)).grad(jax.random.key(KEY), 0.4)
    assert jnp.isfinite(ppl.expectation(lambda p: program(p, False)).grad(jax.random.key(KEY), 0.4))


def test_a_discrete_choice_of_floats_is_discrete_under_an_unbiased_estimator() -> None:
    """A step of a one-hot value that does not move is as sound as one of an index."""

    def program(how: Any, t: Any) -> Any:
        b = families.one_hot_categorical(logits=jnp.stack([t, -t])).using(how) @ "b"
        return jnp.where(b @ jnp.array([0.2, 0.8]) > jnp.exp(t) / 3, 1.0, 0.0)

    truth = float(jax.grad(lambda t: jax.nn.sigmoid(-2 * t))(0.1))
    for how in (Enumerate(), Reinforce(), Relax(lambda z: z[0])):
        objective = ppl.expectation(lambda t, how=how: program(how, t))
        found = float(objective.grad(jax.random.key(KEY), 0.1, num_samples=100_000))
        assert found == pytest.approx(truth, abs=0.02)  # five standard errors and more
    with pytest.raises(errors.DiscontinuousReparameterization):
        ppl.expectation(lambda t: program(StraightThrough(), t)).grad(jax.random.key(KEY), 0.1)


@pytest.mark.parametrize(
    "make", [lambda t: GumbelSoftmax(t), lambda t: StraightThrough(t), lambda t: GumbelRao(t)]
)
def test_a_temperature_must_be_positive(make: Callable[[Any], Estimator]) -> None:
    with pytest.raises(errors.ParameterError, match="positive, got -1"):
        ppl.expectation(lambda p: ppl.flip(p).using(make(-1.0)) @ "b").grad(jax.random.key(KEY), 0.4)


def test_a_temperature_may_be_traced() -> None:
    objective = ppl.expectation(lambda p, t: cost(ppl.flip(p).using(GumbelSoftmax(t)) @ "b"))
    cold, warm = (objective.grad(jax.random.key(KEY), 0.4, t, num_samples=100) for t in (0.1, 1.0))
    assert cold != warm


@pytest.mark.parametrize("name", BIASED)
def test_extreme_parameters_are_finite(name: str) -> None:
    objective = ppl.expectation(lambda p: cost(ppl.flip(p).using(BIASED[name]) @ "b"))
    logits = ppl.expectation(
        lambda t: (
            families.one_hot_categorical(logits=jnp.stack([t, 0.0 * t, -jnp.inf])).using(BIASED[name])
            @ "k"
            @ VALUES
        )
    )
    for program, at in ((objective, [0.0, 1e-30, 1.0]), (logits, [-1e5, -100.0, 1e5])):
        one = lambda x, o=program: o.value_and_grad(jax.random.key(KEY), x, num_samples=100)
        assert all(np.all(np.isfinite(x)) for x in jax.jit(jax.vmap(one))(jnp.asarray(at)))


FEW = {"uniform": Rule(*panels([0.0, 1.0], 6))}


def test_a_sound_choice_beside_a_biased_one_is_unbiased_for_the_relaxed_program() -> None:
    """A coin by measure-valued weights, whose probability depends on a relaxed one."""

    def program(t: Any) -> Any:
        b = ppl.bernoulli(logits=t).using(GumbelSoftmax(1.0)) @ "b"
        win = ppl.flip(0.2 + 0.5 * b).using(ppl.estimators.MeasureValued()) @ "win"
        return jnp.where(win, 1.0, -0.5) * (0.3 + b)

    def relaxed(t: Any) -> Any:
        def at(z: Any) -> Any:
            b = jax.nn.sigmoid(z)
            return ((0.2 + 0.5 * b) * 1.5 - 0.5) * (0.3 + b)

        return relaxed_mean(at, t)

    with jax.enable_x64(True):
        wanted = jax.value_and_grad(relaxed)(LOGIT)
        found = integrate(
            ppl.expectation(program).value_and_grad, jax.random.key(KEY), jnp.asarray(LOGIT),
            rules={"uniform": tanh_sinh(1 / 8)},
        ).mean  # fmt: skip
    np.testing.assert_allclose(found, wanted, atol=1e-8)
