"""Estimators chosen from outside, by address pattern or by a function, layer over layer."""

import jax
import jax.numpy as jnp
import pytest

import ppl
from ppl import Choices, flip, gen, normal
from ppl.errors import UnknownAddress
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam

KEY = jax.random.key(2)


@gen
def inner():
    z = normal(0.0, 1.0) @ "z"
    return z + (normal(z, 1.0) @ "w")


@gen
def layered():
    x = normal(0.0, 1.0) @ "x"
    k = flip(0.3) @ "k"
    return x + k + (inner() @ "left") + (inner() @ "right")


def estimators_of(measure):
    """Which estimator each choice of a staged program has."""
    found = {}
    for address, items in gen(lambda: measure @ ())().stage().choices.items():
        site = items[0].site
        found["/".join(address)] = type(jax.tree.unflatten(site.tree, [0.0] * site.tree.num_leaves)[1])
    return found


DEFAULTS = {
    **dict.fromkeys(["x", "left/z", "left/w", "right/z", "right/w"], Reparam),
    "k": Enumerate,
}


@pytest.mark.parametrize(
    ("chosen", "changed"),
    [
        ({}, {}),
        ({"x": Reinforce()}, {"x": Reinforce}),
        ({"*/z": Reinforce()}, {"left/z": Reinforce, "right/z": Reinforce}),
        ({"left/*": Reinforce(), "*/w": MeasureValued()},
         {"left/z": Reinforce, "left/w": Reinforce, "right/w": MeasureValued}),
        ({"right/?": MeasureValued(), "k": Reinforce()},
         {"right/z": MeasureValued, "right/w": MeasureValued, "k": Reinforce}),
        (lambda address, family: Reinforce() if family == "flip" else None, {"k": Reinforce}),
        (lambda address, family: Reinforce() if address.startswith("left") else None,
         {"left/z": Reinforce, "left/w": Reinforce}),
    ],
)  # fmt: skip
def test_using_chooses_estimators(chosen, changed):
    assert estimators_of(layered()) == DEFAULTS
    assert estimators_of(layered().using(chosen)) == DEFAULTS | changed


def test_the_first_pattern_that_matches_decides():
    chosen = {"x": Reinforce(), "*": MeasureValued()}
    assert estimators_of(layered().using(chosen))["x"] is Reinforce
    assert estimators_of(layered().using(dict(reversed(chosen.items()))))["x"] is MeasureValued


def test_the_order_of_patterns_survives_a_pytree_round_trip():
    """As when a measure is passed to a compiled function, which is where it matters."""
    measure = layered().using({"x": Reinforce(), "*": MeasureValued()})
    leaves, tree = jax.tree.flatten(measure)
    assert estimators_of(jax.tree.unflatten(tree, leaves)) == estimators_of(measure)


def test_the_outermost_choice_of_estimators_wins():
    measure = layered().using({"x": Reinforce(), "left/z": Reinforce()}).using({"x": MeasureValued()})
    assert estimators_of(measure) == DEFAULTS | {"x": MeasureValued, "left/z": Reinforce}

    @gen
    def outer():
        normal(0.0, 1.0).using(Reinforce()) @ "a"
        return inner().using({"z": Reinforce(), "w": Reinforce()}) @ "sub"

    assert estimators_of(outer()) == {"a": Reinforce, "sub/z": Reinforce, "sub/w": Reinforce}
    chosen = {"a": Reparam(), "sub/z": MeasureValued()}
    expected = {"a": Reparam, "sub/z": MeasureValued, "sub/w": Reinforce}
    assert estimators_of(outer().using(chosen)) == expected


def test_using_reaches_lanes_and_branches():
    @gen
    def program():
        lanes = jax.vmap(lambda m: normal(m, 1.0) @ "x")(jnp.zeros(2))
        return jax.lax.cond(lanes[0] > 0, lambda: flip(0.2) @ "f", lambda: flip(0.7) @ "f")

    chosen = {"x": Reinforce(baseline=0.5), "f": MeasureValued()}
    assert estimators_of(program().using(chosen)) == {"x": Reinforce, "f": MeasureValued}


def test_using_an_unknown_address_is_refused():
    pattern = r"`using` names 'lef/z'.*it has 'x', 'k', 'left/z'.*Did you mean 'left/z'\?"
    with pytest.raises(UnknownAddress, match=pattern):
        estimators_of(layered().using({"lef/z": Reinforce()}))
    with pytest.raises(UnknownAddress, match="'nothing'"):
        ppl.expectation(lambda: layered().using({"nothing": Reinforce()}).propose().retval).estimate(KEY)


def test_using_changes_no_density_and_no_draw():
    other = layered().using({"*": Reinforce()})
    assert other.simulate(KEY).choices == layered().simulate(KEY).choices
    choices = Choices(layered().simulate(KEY).choices)
    assert other.log_density(choices) == layered().log_density(choices)
