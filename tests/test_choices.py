"""Choices: nested access, merging, and their life as a pytree."""

import copy
import pickle

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as some

from ppl import Choices
from ppl.errors import OverlappingChoices

NAMES = some.text("abc", min_size=1, max_size=2)
FLAT = some.dictionaries(some.lists(NAMES, min_size=1, max_size=3).map(tuple), some.integers(), max_size=6)


def prefix_free(entries):
    """Without addresses that lie below another one."""
    return {a: v for a, v in entries.items() if not any(a[:n] in entries for n in range(1, len(a)))}


@given(FLAT.map(prefix_free))
def test_every_way_of_writing_the_addresses_is_the_same(entries):
    choices = Choices(entries)
    assert dict(choices.leaves()) == entries
    assert Choices(choices) == choices
    assert all(choices[address] == value for address, value in entries.items())
    merged = Choices()
    for address, value in entries.items():
        merged = merged | {address: value}
    assert merged == choices


@given(FLAT.map(prefix_free))
def test_round_trips_as_a_pytree(entries):
    choices = Choices(entries)
    leaves, tree = jax.tree.flatten(choices)
    again = jax.tree.unflatten(tree, leaves)
    assert again == choices and isinstance(again, Choices)
    paths = {tuple(k.key for k in path) for path, _ in jax.tree_util.tree_flatten_with_path(choices)[0]}
    assert paths == set(entries)


@given(FLAT.map(prefix_free))
def test_copies_are_equal_and_independent(entries):
    choices = Choices(entries)
    for again in (copy.deepcopy(choices), copy.copy(choices), pickle.loads(pickle.dumps(choices))):
        assert again == choices and isinstance(again, Choices)


def test_nested_access():
    choices = Choices({"a": 1.0, ("sub", "x"): 2.0, "sub2": {"deep": {"y": 3.0}}})
    assert choices["sub", "x"] == choices["sub"]["x"] == choices[("sub",)]["x"] == 2.0
    assert choices["sub2", "deep", "y"] == choices["sub2"]["deep", "y"] == 3.0
    assert isinstance(choices["sub2"], Choices)
    with pytest.raises(KeyError):
        choices["sub", "z"]
    with pytest.raises(KeyError):
        choices["z"]


def test_membership_and_get_follow_nested_access():
    choices = Choices({("sub", "x"): 2.0})
    assert ("sub", "x") in choices and ("sub", "y") not in choices and "sub" in choices
    assert choices.get(("sub", "x")) == 2.0
    assert choices.get(("sub", "y"), 0.0) == 0.0


def test_merging_takes_plain_dictionaries_on_either_side():
    expected = Choices({"x": 1.0, "sub": {"y": 2.0, "z": 3.0}})
    assert Choices({"x": 1.0, "sub": {"y": 2.0}}) | {"sub": {"z": 3.0}} == expected
    assert {"sub": {"z": 3.0}} | Choices({"x": 1.0, ("sub", "y"): 2.0}) == expected


def test_merging_leaves_its_arguments_alone():
    first, second = Choices({"sub": {"x": 1.0}}), Choices({"sub": {"y": 2.0}})
    merged = first | second
    assert merged["sub"] == {"x": 1.0, "y": 2.0}
    assert first == {"sub": {"x": 1.0}} and second == {"sub": {"y": 2.0}}


@pytest.mark.parametrize(
    ("first", "second", "address"),
    [
        ({"x": 1.0}, {"x": 1.0}, "x"),
        ({"sub": {"x": 1.0}}, {("sub", "x"): 2.0}, "sub/x"),
        ({"sub": 1.0}, {"sub": {"x": 2.0}}, "sub"),
        ({"sub": {"x": 2.0}}, {"sub": 1.0}, "sub"),
    ],
)
def test_merging_refuses_an_overlap(first, second, address):
    pattern = f"both .* address '{address}'.*never overwrites"
    with pytest.raises(OverlappingChoices, match=pattern):
        Choices(first) | second
    with pytest.raises(OverlappingChoices, match=pattern):
        first | Choices(second)


def test_merging_in_place_refuses_an_overlap_too():
    choices = Choices({"x": 1.0})
    choices |= {"y": 2.0}
    assert choices == {"x": 1.0, "y": 2.0} and isinstance(choices, Choices)
    with pytest.raises(OverlappingChoices, match="'x'"):
        choices |= {"x": 2.0}


def test_one_literal_with_the_same_address_twice_is_refused():
    with pytest.raises(OverlappingChoices, match="'sub/x'"):
        Choices({"sub": {"x": 1.0}, ("sub", "x"): 2.0})


def test_addresses_are_strings():
    with pytest.raises(TypeError, match=r"string or a tuple of strings, got 3"):
        Choices({3: 1.0})


def test_works_under_transformations():
    choices = Choices({"x": jnp.arange(3.0), "sub": {"y": jnp.ones((3, 2))}})
    doubled = jax.jit(lambda c: jax.tree.map(lambda x: 2 * x, c))(choices)
    assert isinstance(doubled, Choices) and doubled["sub", "y"].shape == (3, 2)
    lanes = jax.vmap(lambda c: c["x"] + jnp.sum(c["sub", "y"]))(choices)
    assert lanes.tolist() == [2.0, 3.0, 4.0]
    grown = jax.vmap(lambda c: c | {"z": c["x"] + 1})(choices)
    assert isinstance(grown, Choices) and grown["z"].tolist() == [1.0, 2.0, 3.0]
    assert jax.grad(lambda c: jnp.sum(c["x"] ** 2))(choices)["x"].tolist() == [0.0, 2.0, 4.0]


def test_prints_as_it_is_written():
    assert repr(Choices({"x": 1.0, ("sub", "y"): 2.0})) == "Choices({'x': 1.0, 'sub': Choices({'y': 2.0})})"
