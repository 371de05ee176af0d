"""A guide that does not fit its target is an error before anything is compiled, and names the choice."""

from __future__ import annotations

import itertools
import re
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl import errors as e
from ppl import gen, normal
from ppl.estimators import Reinforce

KEY = jax.random.key(0)
OBSERVED = {"y": 1.0}
OBJECTIVES: dict[str, Any] = {
    "elbo": ppl.elbo,
    "iwelbo": ppl.iwelbo(3),
    "sticking_the_landing": ppl.sticking_the_landing,
    "dreg": ppl.dreg(3),
    "vargrad": ppl.vargrad(3),
    "vimco": ppl.vimco(3),
}


def slope(
    model: Callable[..., Any], guide: Callable[..., Any], given: Any = None, objective: Any = ppl.elbo
) -> Any:
    target = gen(model)()
    target = target.condition(given) if given is not None else target
    return ppl.expectation(lambda p: objective(target, gen(guide)(p))).grad(KEY, 0.3)


def plain():
    z = normal(0.0, 1.0) @ "z"
    normal(z, 1.0) @ "y"


def nested():
    s = gen(lambda: normal(0.0, 1.0) @ "z")() @ "sub"
    normal(s, 1.0) @ "y"


def chain():
    jax.lax.scan(lambda c, _: (normal(c, 1.0) @ "x", None), 0.0, None, length=3)
    normal(0.0, 1.0) @ "y"


def lanes():
    jax.vmap(lambda m: normal(m, 1.0) @ "x")(jnp.arange(3.0))
    normal(0.0, 1.0) @ "y"


def in_steps(p, length, address="x"):
    jax.lax.scan(lambda c, _: (c, normal(p, 1.0) @ address), 0.0, None, length=length)


def in_lanes(p, number, address="x"):
    jax.vmap(lambda m: normal(p + m, 1.0) @ address)(jnp.arange(1.0 * number))


ADDRESSES: dict[str, tuple[Any, Any, Any, type[Exception], str]] = {
    "missing": (
        plain,
        OBSERVED,
        lambda p: None,
        e.MissingChoice,
        r"missing: 'z' \(normal, .*test_mismatch.py:\d+",
    ),
    "other case": (
        plain,
        OBSERVED,
        lambda p: normal(p, 1.0) @ "Z",
        e.UnusedChoice,
        r"'Z' is no.*mean 'z'\?.*Missing: 'z'",
    ),
    "extra": (
        plain,
        OBSERVED,
        lambda p: (normal(p, 1.0) @ "z", normal(p, 1.0) @ "w"),
        e.UnusedChoice,
        r"^'w' is no choice of the program, which has 'z', 'y'\.",
    ),
    "two extra": (
        plain,
        OBSERVED,
        lambda p: (normal(p, 1.0) @ "v", normal(p, 1.0) @ "w"),
        e.UnusedChoice,
        r"'v', 'w' are no choices.*Missing: 'z' \(normal",
    ),
    "observed missing": (
        plain,
        None,
        lambda p: normal(p, 1.0) @ "z",
        e.MissingChoice,
        r"missing: 'y' \(normal",
    ),
    "observed unknown": (
        plain,
        {"yy": 1.0},
        lambda p: normal(p, 1.0) @ "z",
        e.UnusedChoice,
        r"'yy' is no.*mean 'y'\?",
    ),
    "observed and proposed": (
        plain,
        OBSERVED,
        lambda p: (normal(p, 1.0) @ "z", normal(p, 1.0) @ "y"),
        e.OverlappingChoices,
        r"address 'y'",
    ),
    "latent observed too": (
        plain,
        {"y": 1.0, "z": 0.0},
        lambda p: normal(p, 1.0) @ "z",
        e.OverlappingChoices,
        r"address 'z'",
    ),
    "twice in the guide": (
        plain,
        OBSERVED,
        lambda p: (normal(p, 1.0) @ "z", normal(p, 1.0) @ "z"),
        e.DuplicateAddress,
        r"'z' is used twice",
    ),
    "not nested": (
        nested,
        OBSERVED,
        lambda p: normal(p, 1.0) @ "z",
        e.UnusedChoice,
        r"'z' is no.*mean 'sub/z'\?",
    ),
    "nested misspelt": (
        nested,
        OBSERVED,
        lambda p: normal(p, 1.0) @ ("sub", "zz"),
        e.UnusedChoice,
        r"'sub/zz' is no.*mean 'sub/z'\?",
    ),
    "a prefix": (
        nested,
        OBSERVED,
        lambda p: normal(p, 1.0) @ "sub",
        e.UnusedChoice,
        r"'sub' is no.*mean 'sub/z'\?",
    ),
    "below a choice": (
        plain,
        OBSERVED,
        lambda p: normal(p, 1.0) @ ("z", "w"),
        e.UnusedChoice,
        r"'z/w' is no.*mean 'z'\?",
    ),
    "scan missing": (chain, OBSERVED, lambda p: None, e.MissingChoice, r"missing: 'x' \(normal"),
    "scan misspelt": (
        chain,
        OBSERVED,
        lambda p: in_steps(p, 3, "xx"),
        e.UnusedChoice,
        r"'xx' is no.*mean 'x'\?",
    ),
    "steps as addresses": (
        chain,
        OBSERVED,
        lambda p: [normal(p, 1.0) @ ("x", str(t)) for t in range(3)],
        e.UnusedChoice,
        r"'x/0' \(Did you mean 'x'\?\), 'x/1'",
    ),
    "lanes missing": (lanes, OBSERVED, lambda p: None, e.MissingChoice, r"missing: 'x' \(normal"),
    "lanes misspelt": (
        lanes,
        OBSERVED,
        lambda p: in_lanes(p, 3, "X"),
        e.UnusedChoice,
        r"'X' is no.*mean 'x'\?",
    ),
    "too few steps": (
        chain,
        OBSERVED,
        lambda p: in_steps(p, 2),
        e.ChoiceShapeError,
        r"'x' \(normal.*has shape \(3,\).*shape \(2,\)",
    ),
    "too few lanes": (
        lanes,
        OBSERVED,
        lambda p: in_lanes(p, 2),
        e.ChoiceShapeError,
        r"'x' \(normal.*has shape \(3,\).*shape \(2,\)",
    ),
    "no lanes": (
        lanes,
        OBSERVED,
        lambda p: in_lanes(p, 0),
        e.ChoiceShapeError,
        r"'x' \(normal.*has shape \(3,\).*shape \(0,\)",
    ),
    "one lane is no scalar": (
        plain,
        OBSERVED,
        lambda p: in_lanes(p, 1, "z"),
        e.ChoiceShapeError,
        r"'z' \(normal.*has shape \(\).*shape \(1,\)",
    ),
}


@pytest.mark.parametrize("name", ADDRESSES)
def test_addresses(name):
    model, given, guide, kind, pattern = ADDRESSES[name]
    with pytest.raises(kind, match=pattern):
        slope(model, guide, given)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_objective_names_the_address(name):
    with pytest.raises(e.UnusedChoice, match=r"'zz' is no.*mean 'z'\?.*Missing: 'z'"):
        slope(plain, lambda p: normal(p, 1.0) @ "zz", OBSERVED, OBJECTIVES[name])


SHAPES = [(), (1,), (3,), (3, 1), (1, 3), (0,)]


@pytest.mark.parametrize(("ours", "others"), list(itertools.permutations(SHAPES, 2)))
def test_shapes_are_never_broadcast(ours, others):
    """Thirty pairs, latent and observed."""
    model = lambda: (normal(0.0, 1.0) @ "w", normal(jnp.zeros(others), 1.0) @ "z")
    pattern = (
        rf"'z' \(normal.*has shape {re.escape(str(others))}, but a value of shape {re.escape(str(ours))}"
    )
    with pytest.raises(e.ChoiceShapeError, match=pattern):
        slope(model, lambda p: (normal(p, 1.0) @ "w", normal(p + jnp.zeros(ours), 1.0) @ "z"))
    with pytest.raises(e.ChoiceShapeError, match=pattern):
        slope(model, lambda p: normal(p, 1.0) @ "w", {"z": np.zeros(ours)})


def test_a_column_beside_a_row_in_the_model_does_not_pass_for_the_data():
    """The likelihood broadcasts to (3, 3) where the user meant (3,)."""
    model = lambda: (normal(0.0, 1.0) @ "z", normal(jnp.zeros((3, 1)), jnp.ones(3)) @ "y")
    with pytest.raises(e.ChoiceShapeError, match=r"'y' .*has shape \(3, 3\).*shape \(3,\)"):
        slope(model, lambda p: normal(p, 1.0) @ "z", {"y": np.zeros(3)})


FAMILIES: dict[str, Callable[[Any], Any]] = {
    "normal": lambda p: normal(p, 1.0),
    "student_t": lambda p: ppl.student_t(5.0, p, 1.0),
    "gamma": lambda p: ppl.gamma(jnp.exp(p), 1.0),
    "half_normal": lambda p: ppl.half_normal(jnp.exp(p)),
    "log_normal": lambda p: ppl.log_normal(p, 1.0),
    "exponential": lambda p: ppl.exponential(jnp.exp(p)),
    "beta": lambda p: ppl.beta(jnp.exp(p), 1.0),
    "uniform": lambda p: ppl.uniform(0.0, 1.0),
    "von_mises": lambda p: ppl.von_mises(p, 1.0),
    "poisson": lambda p: ppl.poisson(jnp.exp(p)),
    "binomial": lambda p: ppl.binomial(3, jax.nn.sigmoid(p)),
    "categorical": lambda p: ppl.categorical(logits=p * jnp.arange(4.0)),
    "flip": lambda p: ppl.flip(jax.nn.sigmoid(p)),
}
REAL, HALF = ("normal", "student_t"), ("gamma", "half_normal", "log_normal", "exponential")
BOUNDED, DISCRETE = ("beta", "uniform", "von_mises"), ("poisson", "binomial", "categorical", "flip")
WIDER = [
    *itertools.product(REAL, HALF + BOUNDED),
    *itertools.product(HALF, BOUNDED),
    ("poisson", "binomial"),
]


@pytest.mark.parametrize(("guide", "model"), WIDER)
def test_a_guide_beyond_its_target_is_refused_and_both_choices_named(guide, model):
    pattern = (
        rf"elbo: the guide's choice 'z' \({guide}, .*the target's, 'z' \({model}, .*-inf.*Give the guide"
    )
    with pytest.raises(e.SupportMismatch, match=pattern):
        slope(lambda: FAMILIES[model](0.0) @ "z", lambda p: FAMILIES[guide](p) @ "z")


@pytest.mark.parametrize("guide", DISCRETE)
@pytest.mark.parametrize("model", ["normal", "gamma", "beta"])
@pytest.mark.parametrize("objective", ["elbo", "iwelbo"])
def test_a_probability_against_a_density_is_refused(guide, model, objective):
    with pytest.raises(
        e.SupportMismatch, match=rf"'z' \({guide}, .*is discrete.*'z' \({model}, .*has a density"
    ):
        slope(
            lambda: FAMILIES[model](0.0) @ "z",
            lambda p: FAMILIES[guide](p) @ "z",
            None,
            OBJECTIVES[objective],
        )


@pytest.mark.parametrize("model", DISCRETE)
def test_a_density_against_a_probability_is_refused(model):
    with pytest.raises(e.ChoiceDtypeError, match=rf"'z' \({model}, .*dtype float32"):
        slope(lambda: FAMILIES[model](0.0) @ "z", lambda p: normal(p, 1.0) @ "z")


def test_more_categories_than_the_target_has():
    model = lambda: ppl.categorical(logits=jnp.zeros(3)) @ "z"
    with pytest.raises(
        e.SupportMismatch, match=r"'z' \(categorical, .*may be 3, one of 4 values.*has 3 others"
    ):
        slope(model, lambda p: FAMILIES["categorical"](p) @ "z")


@pytest.mark.parametrize("name", ["sticking_the_landing", "vargrad"])
def test_other_bounds_that_are_minus_infinity(name):
    with pytest.raises(e.SupportMismatch, match=rf"{name}: the guide's choice"):
        slope(lambda: ppl.half_normal(1.0) @ "z", lambda p: normal(p, 1.0) @ "z", None, OBJECTIVES[name])


def test_a_divergence_the_other_way():
    divergence = ppl.expectation(
        lambda p: ppl.forward_kl(
            gen(lambda: normal(0.0, 1.0) @ "z")(), gen(lambda: ppl.gamma(jnp.exp(p), 1.0) @ "z")()
        )
    )
    with pytest.raises(
        e.SupportMismatch,
        match=r"forward_kl: the guide's choice 'z' \(gamma.*the target's, 'z' \(normal.*the guide's log",
    ):
        divergence.grad(KEY, 0.0)


@pytest.mark.parametrize("name", ["iwelbo", "vimco"])
def test_importance_weights_may_be_zero(name):
    found = slope(
        lambda: ppl.half_normal(1.0) @ "z",
        lambda p: normal(p + 2.0, 1.0).using(Reinforce()) @ "z",
        None,
        OBJECTIVES[name],
    )
    assert np.isfinite(found)


NARROWER = [("gamma", "normal"), ("beta", "normal"), ("uniform", "gamma"), ("binomial", "poisson")]


@pytest.mark.parametrize("name", ["elbo", "iwelbo"])
@pytest.mark.parametrize(("guide", "model"), NARROWER)
def test_a_guide_that_leaves_values_of_its_target_out_is_refused(guide, model, name):
    pattern = rf"{name}: the guide's choice 'z' \({guide}, .*the target's, 'z' \({model}.*are left out"
    with pytest.raises(e.SupportMismatch, match=pattern):
        slope(lambda: FAMILIES[model](0.0) @ "z", lambda p: FAMILIES[guide](p) @ "z", None, OBJECTIVES[name])


def test_a_divergence_takes_a_guide_that_is_wider_than_its_source():
    source, wide = gen(lambda: ppl.gamma(1.0, 1.0) @ "z")(), gen(lambda p: normal(p, 1.0) @ "z")
    assert ppl.expectation(lambda p: ppl.forward_kl(source, wide(p))).stage(0.3)


FITTING = [("gamma", "log_normal"), ("half_normal", "exponential"), ("student_t", "normal")]


@pytest.mark.parametrize(("guide", "model"), FITTING)
def test_a_guide_of_the_same_support_is_not(guide, model):
    target, proposal = gen(lambda: FAMILIES[model](0.0) @ "z"), gen(lambda p: FAMILIES[guide](p) @ "z")
    bound = ppl.expectation(lambda p: ppl.elbo(target(), proposal(p)))
    assert bound.stage(0.3).jaxpr.out_avals[0].shape == ()


def test_a_choice_that_the_target_may_leave_out_is_not_judged():
    def model():
        go = ppl.flip(0.5) @ "go"
        jax.lax.cond(go, lambda: ppl.half_normal(1.0) @ "z", lambda: 0.0)

    def guide(p):
        ppl.flip(0.01) @ "go"
        normal(p, 1.0) @ "z"

    assert ppl.expectation(lambda p: ppl.elbo(gen(model)(), gen(guide)(p))).stage(0.3)


ends = ppl.expectation(
    lambda p: (
        ppl.elbo(gen(lambda: ppl.uniform(0.0, 1.0) @ "z")(), gen(lambda: ppl.uniform(-3.0, -2.0) @ "z")())
        + 0 * p
    )
)


def test_ends_that_only_values_tell_are_named_by_the_run():
    """-inf at the start of training says so, and why."""
    assert ends.estimate(KEY, 0.0) == -np.inf
    found = ends.first_nonfinite(KEY, 0.0)
    assert found is not None
    assert "the log density of 'z' is not finite (-inf: a value outside the support" in found


SINGLE: dict[str, tuple[Any, str]] = {
    "guide without addresses": (
        lambda p: ppl.elbo(gen(plain)().condition(OBSERVED), normal(p, 1.0)),
        "single distribution has no address",
    ),
    "target without addresses": (
        lambda p: ppl.elbo(normal(0.0, 1.0), gen(lambda: normal(p, 1.0) @ "z")()),
        "single distribution has no address",
    ),
    "guide not applied": (
        lambda p: ppl.elbo(gen(plain)().condition(OBSERVED), gen(lambda: normal(p, 1.0) @ "z")),
        "before it is applied",
    ),
    "target not applied": (
        lambda p: ppl.elbo(gen(plain), gen(lambda: normal(p, 1.0) @ "z")()),
        r"plain\(\.\.\.\)\.log_density",
    ),
    "swapped": (
        lambda p: ppl.elbo(gen(lambda: normal(p, 1.0) @ "z")(), gen(plain)().condition(OBSERVED)),
        "cannot be proposed",
    ),
}


@pytest.mark.parametrize("name", SINGLE)
def test_what_is_no_guide_or_no_target(name):
    program, pattern = SINGLE[name]
    with pytest.raises((e.PPLError, TypeError, AttributeError), match=pattern):
        ppl.expectation(program).grad(KEY, 0.3)
