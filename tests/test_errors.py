"""Every mistake has an error of its own, that names address, line, shapes and the way out."""

import inspect
import re

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl import beta, categorical, exponential, flip, gen, multivariate_normal, normal, uniform
from ppl import errors as e
from ppl.estimators import Reparam

KEY = jax.random.key(0)
HERE = r"test_errors\.py:\d+"


def line(offset=0):
    """A pattern for a line of this file, counted from the caller's."""
    return rf"test_errors\.py:{inspect.currentframe().f_back.f_lineno + offset}\b"


def test_all_errors_have_one_base_and_a_docstring():
    classes = [cls for cls in vars(e).values() if getattr(cls, "__module__", "") == e.__name__]
    classes = [cls for cls in classes if inspect.isclass(cls)]
    assert len(classes) > 10
    assert all(issubclass(cls, e.PPLError) and cls.__doc__ for cls in classes)


OUTSIDE = {
    "eagerly": lambda f: f(),
    "jit": lambda f: jax.jit(f)(),
    "vmap": lambda f: jax.vmap(lambda _: f())(jnp.zeros(3)),
    "jit_of_vmap": lambda f: jax.jit(jax.vmap(lambda _: f()))(jnp.zeros(3)),
    "scan": lambda f: jax.lax.scan(lambda c, _: (c, f()), 0.0, None, length=2),
    "cond": lambda f: jax.lax.cond(True, f, lambda: 0.0),
}


@pytest.mark.parametrize("way", OUTSIDE.values(), ids=OUTSIDE)
def test_a_choice_outside_any_program(way):
    pattern = rf"'sub/x' \(normal, .*{HERE}.*\) was made outside any program.*@ppl\.gen.*simulate"
    with pytest.raises(e.ChoiceOutsideProgram, match=pattern):
        way(lambda: normal(0.0, 1.0) @ ("sub", "x"))


@pytest.mark.parametrize("way", OUTSIDE.values(), ids=OUTSIDE)
def test_a_nested_program_outside_any_program(way):
    program = gen(lambda loc: normal(loc, 1.0) @ "x")
    with pytest.raises(e.ChoiceOutsideProgram, match=rf"'sub/x' \(normal, .*{HERE}"):
        way(lambda: program(0.5) @ "sub")


def test_a_proposal_outside_any_program_has_no_address_to_name():
    with pytest.raises(e.ChoiceOutsideProgram, match=rf"normal, .*{HERE}.*outside any program") as caught:
        normal(0.0, 1.0).propose()
    assert "<draw>" not in str(caught.value)  # an internal name


def test_an_inner_expectation_outside_any_program():
    with pytest.raises(e.ChoiceOutsideProgram, match=rf"inner expectation at .*{line(1)}.*estimate"):
        ppl.expect(lambda: normal(0.0, 1.0) @ "x")()


@gen
def model():
    x = normal(jnp.zeros(2), 1.0) @ "x"
    k = categorical(probs=jnp.array([0.5, 0.5])) @ ("sub", "kind")
    return x, k, flip(0.5) @ ("sub", "flag")


GOOD = {"x": np.zeros(2), "sub": {"kind": 1, "flag": True}}


def without(*address):
    return {a: v for a, v in ppl.Choices(GOOD).leaves() if a != address}


def test_missing_choices_are_named_with_their_lines():
    with pytest.raises(e.MissingChoice) as caught:
        model().log_density({"x": np.zeros(2)})
    message = str(caught.value)
    assert re.search(rf"'sub/kind' \(categorical, .*{HERE}.*\).*'sub/flag' \(flip, .*{HERE}", message), (
        message
    )
    assert "generate" in message and "'x'" not in message


@pytest.mark.parametrize(
    ("given", "hint"),
    [("sub/kinds", "sub/kind"), ("y", None), ("sub/flog", "sub/flag"), ("sub/kind/deeper", "sub/kind")],
)
def test_unused_choices_name_the_nearest(given, hint):
    address = tuple(given.split("/"))
    base = without("sub", "kind") if given.startswith("sub/kind/") else GOOD
    for call in (
        lambda: model().log_density(ppl.Choices(base) | {address: 0}),
        lambda: model().generate(KEY, {address: 0}),
    ):
        with pytest.raises(e.UnusedChoice) as caught:
            call()
        assert f"'{given}' is no choice of the program, which has 'x', 'sub/kind', 'sub/flag'" in str(
            caught.value
        )
        assert ("Did you mean" in str(caught.value)) == (hint is not None)
        assert hint is None or f"Did you mean '{hint}'?" in str(caught.value)


def test_a_program_without_choices_says_so():
    with pytest.raises(e.UnusedChoice, match="which has none"):
        gen(lambda: None)().log_density({"x": 0.0})


@pytest.mark.parametrize("value", [0.0, np.zeros(3), np.zeros((1, 2)), np.zeros((2, 1)), np.zeros(0)])
def test_a_choice_of_another_shape_is_not_broadcast(value):
    pattern = (
        rf"'x' \(normal, .*{HERE}.*\) has shape \(2,\).*shape {re.escape(str(np.shape(value)))}.*reshape"
    )
    with pytest.raises(e.ChoiceShapeError, match=pattern):
        model().log_density(GOOD | {"x": value})
    with pytest.raises(e.ChoiceShapeError, match=pattern):
        model().generate(KEY, {"x": value})


def test_shapes_of_lanes_and_steps_are_those_of_the_trace():
    @gen
    def program():
        jax.vmap(lambda m: jax.lax.scan(lambda c, _: (normal(c, 1.0) @ "x", None), m, None, length=5))(
            jnp.zeros(3)
        )

    with pytest.raises(e.ChoiceShapeError, match=r"shape \(3, 5\).*shape \(5, 3\)"):
        program().log_density({"x": np.zeros((5, 3))})


@pytest.mark.parametrize(
    ("address", "value", "wanted", "given"),
    [
        (("sub", "kind"), 1.0, "int32", "float32"),
        (("sub", "flag"), 1, "bool", "int32"),
        (("sub", "flag"), 0.5, "bool", "float32"),
        (("x",), np.zeros(2, complex), "float32", "complex64"),
    ],
)
def test_a_choice_of_another_kind_of_number(address, value, wanted, given):
    pattern = rf"'{'/'.join(address)}' .*{HERE}.*dtype {wanted}.*dtype {given}.*astype\('{wanted}'\)"
    with pytest.raises(e.ChoiceDtypeError, match=pattern):
        model().log_density(without(*address) | {address: value})


def test_numbers_that_lose_nothing_are_converted():
    expected = model().log_density(GOOD)
    for x, kind in ((np.zeros(2, int), np.int8(1)), (np.zeros(2, bool), True), (np.zeros(2, np.float16), 1)):
        assert model().log_density({"x": x, "sub": {"kind": kind, "flag": True}}) == expected


@pytest.mark.parametrize("value", ["a", object(), None])
def test_a_choice_that_is_no_number(value):
    with pytest.raises((e.PPLError, TypeError), match=r"'x'"):
        model().log_density(GOOD | {"x": value})


PARAMETERS = {
    "scale": (lambda: normal(0.0, -1.0), r"normal: the parameter scale must be positive, got -1\.0"),
    "index": (lambda: normal(0.0, np.array([1.0, 0.0])), r"scale must be positive, got 0\.0 at index \(1,\)"),
    "nan": (lambda: exponential(np.nan), r"exponential: the parameter rate must be positive, got nan"),
    "probs": (lambda: flip(1.5), r"flip: the parameter probs must lie between 0 and 1, got 1\.5"),
    "order": (lambda: uniform(1.0, 0.0), r"uniform: the parameter low must be below high, got 1\.0"),
    "simplex": (lambda: categorical(probs=np.array([0.5, 0.6])), r"categorical: .*sum to 1"),
    "shapes": (
        lambda: normal(np.zeros(2), np.ones(3)),
        r"normal: .*loc has shape \(2,\), scale has shape \(3,\)",
    ),
    "neither": (lambda: categorical(), r"categorical: give exactly one of probs= or logits=, got neither"),
    "both": (lambda: ppl.bernoulli(0.5, logits=0.0), r"give exactly one of .*got probs= and logits="),
    "matrix": (
        lambda: multivariate_normal(np.zeros(2), covariance_matrix=-np.eye(2)),
        r"covariance_matrix must be symmetric and positive definite",
    ),
}


@pytest.mark.parametrize("name", PARAMETERS)
def test_concrete_parameters_outside_their_domain(name):
    make, pattern = PARAMETERS[name]
    with pytest.raises(e.ParameterError, match=pattern) as caught:
        make()
    assert re.search(HERE, str(caught.value))
    with pytest.raises(e.ParameterError, match=pattern):
        gen(lambda: make() @ "x")().simulate(KEY)
    with pytest.raises(e.ParameterError, match=pattern):
        jax.jit(lambda: make().log_density(0.0))()


def test_a_choice_without_an_address():
    with pytest.raises(TypeError, match=rf"needs an address: normal.*{line(1)}"):
        gen(lambda: normal(0.0, 1.0) @ ())().simulate(KEY)
    with pytest.raises(TypeError, match=r"string or a tuple of strings, got 3"):
        gen(lambda: normal(0.0, 1.0) @ 3)().simulate(KEY)


@pytest.mark.parametrize("key", [0, jax.random.PRNGKey(0), None, np.zeros(2, np.uint32)])
def test_keys_are_typed(key):
    for call in (
        lambda: model().simulate(key),
        lambda: model().generate(key, {}),
        lambda: normal(0.0, 1.0).simulate(key),
        lambda: beta(1.0, 1.0).generate(key, 0.5),
        lambda: ppl.expectation(lambda: normal(0.0, 1.0) @ "x").estimate(key),
    ):
        with pytest.raises(e.PPLError, match=r"jax\.random\.key\(seed\)"):
            call()


def test_several_keys_are_refused():
    with pytest.raises(e.PPLError, match=r"array of keys of shape \(2,\).*jax\.vmap"):
        model().simulate(jax.random.split(KEY, 2))


def test_an_estimator_that_the_family_does_not_admit():
    for call in (
        lambda: flip(0.5).using(Reparam()),
        lambda: gen(lambda: gen(lambda: flip(0.5) @ "f")().using({"f": Reparam()}) @ "s")().simulate(KEY),
    ):
        with pytest.raises(e.EstimatorNotAdmitted, match=rf"flip.*{HERE}"):
            call()


def test_an_expectation_returns_one_real_number():
    with pytest.raises(
        e.UnsupportedProgram, match=r"must return one real number, and returns .*\[2\].*jnp\.sum"
    ):
        ppl.expectation(lambda: normal(jnp.zeros(2), 1.0) @ "x").estimate(KEY)
    with pytest.raises(e.UnsupportedProgram, match="returns nothing"):
        ppl.expectation(lambda: None).estimate(KEY)


def test_a_program_that_returns_what_is_no_array_is_refused_by_name():
    with pytest.raises((e.PPLError, TypeError), match=r"(?s)str.*"):
        gen(lambda: (normal(0.0, 1.0) @ "x", "text"))().simulate(KEY)
