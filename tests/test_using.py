"""Estimators of an expectation chosen from outside: by pattern, by predicate, by function and by policy.

The law throughout: the program is then the one that names these estimators itself, bit for bit.
"""

import re

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ppl
from ppl.choose import Using
from ppl.errors import EstimatorNotAdmitted, UnknownAddress
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam

KEY = jax.random.key(11)
DEFAULT = {"z": None, "b": None, "x": None, "<draw>": None, "in": None}
"""What a program names for each of its choices; `None` for nothing."""


def measure(family, estimator):
    return family if estimator is None else family.using(estimator)


@ppl.gen
def guide(t, how):
    """A chain of coins, whose odds are a normal number."""
    z = measure(ppl.normal(t, 1.0), how["z"]) @ "z"

    def step(count, _):
        return count + (measure(ppl.flip(jax.nn.sigmoid(z)), how["b"]) @ "b"), None

    return jax.lax.scan(step, 0.0, None, 3)[0]


def program(how):
    """Choices of a guide, in lanes, in branches, without an address, in an inner expectation."""

    def inside(p):
        return 1.5 * (measure(ppl.flip(p), how["in"]) @ "in")

    def run(t):
        proposed = guide(t, how).propose()
        lanes = jax.vmap(lambda s: measure(ppl.normal(s, 1.0), how["x"]) @ "x")(jnp.arange(2.0) * t)
        k = measure(ppl.flip(jax.nn.sigmoid(t)), how["<draw>"]).propose().retval
        inner = jax.vmap(lambda p: ppl.expect(inside)(p))(jax.nn.sigmoid(jnp.array([0.2, 0.3]) * t))
        branch = jax.lax.cond(k, lambda: lanes[0], lambda: 2.0 * lanes[1])
        return proposed.log_density + proposed.retval * branch + jnp.sum(inner)

    return run


def scored_coins(address, family):
    return Reinforce() if family == "flip" else None


class Preferring:
    """A policy: the first estimator of a kind that exists for the choice."""

    def __init__(self, *kinds):
        self.kinds = kinds

    def estimator_for(self, address, family, admissible):
        return next((e for kind in self.kinds for e in admissible if isinstance(e, kind)), None)


CHOSEN = {
    "nothing": ({}, {}),
    "address": ({"z": Reinforce()}, {"z": Reinforce()}),
    "two patterns": ({"b": MeasureValued(), "i*": Reinforce()}, {"b": MeasureValued(), "in": Reinforce()}),
    "all": ({"*": Reinforce()}, dict.fromkeys(DEFAULT, Reinforce())),
    "unnamed": ({"<draw>": Reinforce()}, {"<draw>": Reinforce()}),
    "first wins": (
        {"x": Reinforce(), "?": MeasureValued()},
        {"x": Reinforce(), "z": MeasureValued(), "b": MeasureValued()},
    ),
    "baseline": ({"b": Reinforce(baseline="loo")}, {"b": Reinforce(baseline="loo")}),
    "array": (
        {"b": Reinforce(baseline=jnp.float32(0.5))},
        {"b": Reinforce(baseline=jnp.float32(0.5))},
    ),
    "predicate": (
        {lambda address, family: family == "normal": MeasureValued()},
        {"z": MeasureValued(), "x": MeasureValued()},
    ),
    "function": (scored_coins, dict.fromkeys(["b", "<draw>", "in"], Reinforce())),
    "policy": (
        Preferring(MeasureValued, Reinforce),
        dict.fromkeys(DEFAULT, MeasureValued()),
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CHOSEN)
def test_using_is_as_if_the_program_named_the_estimators(name):
    chosen, named = CHOSEN[name]
    outside = ppl.expectation(program(DEFAULT)).using(chosen)
    inside = ppl.expectation(program(DEFAULT | named))
    both = [one.value_and_grad(KEY, 0.3, num_samples=2) for one in (outside, inside)]
    np.testing.assert_array_equal(*both)


def test_the_estimators_matter():
    """So that the test above can fail."""
    plain = ppl.expectation(program(DEFAULT))
    default = plain.grad(KEY, 0.3, num_samples=2)
    for name in ("address", "unnamed", "predicate", "function", "baseline"):
        assert plain.using(CHOSEN[name][0]).grad(KEY, 0.3, num_samples=2) != default, name


def test_other_methods_go_by_it_too():
    outside = ppl.expectation(program(DEFAULT)).using({"*": Reinforce()})
    inside = ppl.expectation(program(dict.fromkeys(DEFAULT, Reinforce())))
    for one, other in (
        (outside.jvp(KEY, (0.3,), (1.0,)), inside.jvp(KEY, (0.3,), (1.0,))),
        (
            jax.grad(lambda t: outside.surrogate(KEY, t))(0.3),
            jax.grad(lambda t: inside.surrogate(KEY, t))(0.3),
        ),
    ):
        np.testing.assert_array_equal(one, other)
    coin = ppl.expectation(lambda p: 2.0 * (ppl.flip(p) @ "x")).using({"x": Reinforce()})
    assert float(coin.exact(0.25)) == 0.5


def test_it_overrides_what_the_program_names_and_later_calls_override_earlier():
    named = ppl.expectation(program(dict.fromkeys(DEFAULT, Reinforce())))
    named_inside = dict.fromkeys(DEFAULT, Reinforce()) | {"z": Reparam(), "b": Enumerate()}
    inside = ppl.expectation(program(named_inside))
    outside = named.using({"z": MeasureValued(), "b": Enumerate()}).using({"z": Reparam()})
    assert outside.grad(KEY, 0.3) == inside.grad(KEY, 0.3)


def test_arrays_of_estimators_may_be_traced():
    objective = ppl.expectation(lambda p: jnp.where(ppl.flip(p).using(Reinforce()) @ "win", 101.0, 100.0))

    def spread(baseline):
        chosen = objective.using({"win": Reinforce(baseline=baseline)})
        return jnp.std(jax.vmap(lambda key: chosen.grad(key, 0.5))(jax.random.split(KEY, 50)))

    spreads = jax.jit(jax.vmap(spread))(jnp.array([0.0, 100.5]))
    assert spreads[0] > 100 * spreads[1] + 1


def test_a_continuous_function_with_choices_stays_vouched_for():
    @ppl.expectation
    def objective(mean):
        def leaky(mean):
            x = ppl.normal(mean, 1.0) @ "x"
            return jnp.where(x > 0, x, 0.1 * x)

        return ppl.continuous(leaky)(mean) + (ppl.normal(mean, 1.0) @ "y")

    changed = objective.using({"y": Reinforce()})
    assert jnp.isfinite(changed.grad(KEY, 0.3))
    with pytest.raises(ppl.DiscontinuousReparameterization):
        ppl.expectation(lambda m: jnp.where((ppl.normal(m, 1.0) @ "x") > 0, 1.0, 0.0)).using(
            {"x": Reparam()}
        ).grad(KEY, 0.3)


@pytest.mark.parametrize(
    ("chosen", "error", "pattern"),
    [
        ({"zz": Reinforce()}, UnknownAddress,
         r"names 'zz'.*it has 'z', 'b', 'x', '<draw>', 'in'\. Did you mean 'z'\?"),
        ({lambda address, family: family == "gamma": Reinforce()}, UnknownAddress,
         r"names the choices of .*<lambda>.*it has 'z'"),
        ({"b": Reparam()}, EstimatorNotAdmitted,
         r"Reparam does not exist for 'b' \(flip, .*\)\. .*This family admits Enumerate\(\), "),
        ({"in": Reparam()}, EstimatorNotAdmitted, r"Reparam does not exist for 'in' \(flip"),
        ({"b": 3}, EstimatorNotAdmitted, r"3, chosen for 'b' \(flip, .*\), is not a gradient estimator"),
        (lambda address, family: "scored", EstimatorNotAdmitted, "'scored', chosen for 'z'"),
    ],
)  # fmt: skip
def test_refusals(chosen, error, pattern):
    objective = ppl.expectation(program(DEFAULT)).using(chosen)
    with pytest.raises(error, match=pattern):
        objective.grad(KEY, 0.3)


def test_one_estimator_is_not_a_mapping():
    with pytest.raises(TypeError, match=re.escape("write {'*': estimator}")):
        ppl.expectation(program(DEFAULT)).using(Reinforce())
    with pytest.raises(TypeError, match="a mapping from address patterns"):
        guide(0.1, DEFAULT).using(Reinforce())


def test_programs_take_predicates_and_policies():
    def slope(chosen):
        objective = ppl.expectation(lambda t: guide(t, DEFAULT).using(chosen).propose().retval)
        return objective.grad(KEY, 0.3)

    by_pattern = slope({"z": MeasureValued(), "b": MeasureValued()})
    assert slope(Preferring(MeasureValued)) == by_pattern
    assert slope({lambda address, family: len(address) == 1: MeasureValued()}) == by_pattern
    with pytest.raises(UnknownAddress, match=r"the choices of .*never"):
        slope({never: Reinforce()})


def never(address, family):
    return False


def test_what_a_policy_is_told():
    told = {}

    class Listening:
        def estimator_for(self, address, family, admissible):
            told[address] = (family, [type(e) for e in admissible])

    ppl.expectation(program(DEFAULT)).using(Listening()).stage(0.3)
    assert told["in"][0] == "flip"
    assert {Reparam, MeasureValued, Reinforce} <= set(told["z"][1])
    assert Enumerate not in told["z"][1]
    assert list(told) == ["z", "b", "x", "<draw>", "in"]


def test_it_is_hashed_by_content_and_compiled_once():
    traced = []

    def counted(t):
        traced.append(t)
        return ppl.normal(t, 1.0) @ "x" + 0.0

    objective = ppl.expectation(counted)
    for baseline in (0.5, 0.5, 0.7):
        objective.using({"x": Reinforce(baseline=baseline)}).grad(KEY, 0.3)
    assert len(traced) == 1
    one, other = (Using({"x": Reinforce(baseline=b)}) for b in (0.5, 0.5))
    assert one == other
    assert hash(one) == hash(other)
    assert one != Using({"x": Reinforce(baseline=0.7)})
    assert one != Using({"y": Reinforce(baseline=0.5)})
    with pytest.raises(TypeError, match="unhashable"):
        hash(Using({"x": Reinforce(baseline=jnp.zeros(()))}))


def test_fit_trains_with_them():
    objective = ppl.expectation(lambda t: jnp.where((ppl.normal(t, 1.0) @ "x") > 0, 1.0, 0.0))
    options = {"key": KEY, "steps": 3, "progress": False}
    with pytest.raises(ppl.DiscontinuousReparameterization):
        ppl.fit(objective, jnp.array(0.0), optax.sgd(0.1), **options)
    chosen = objective.using({"x": MeasureValued()})
    assert ppl.fit(chosen, jnp.array(0.0), optax.sgd(0.1), **options).params > 0
    averaged = objective.using({"x": Reinforce(baseline="average")})
    assert ppl.fit(averaged, jnp.array(0.0), optax.sgd(0.1), **options).estimator_state["x"][1] > 0


def test_estimators_of_two_classes_are_not_the_same():
    """JAX calls the structures of two empty dataclasses equal."""
    from ppl.choose import Using

    assert Using({"x": Reparam()}) == Using({"x": Reparam()})
    assert Using({"x": Reparam()}) != Using({"x": MeasureValued()})
