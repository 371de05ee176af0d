"""Programs of no size, of huge size, and in narrow or double precision: a defined value, or a named error."""

from __future__ import annotations

import resource
from collections.abc import Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import ppl
from ppl import errors as e
from ppl.estimators import (
    DisARM,
    Enumerate,
    LeaveOneOut,
    MeasureValued,
    Reinforce,
    Reparam,
    StochasticTriple,
    UnorderedSet,
)

KEY = jax.random.key(0)


@ppl.gen
def guide(mean):
    ppl.normal(mean, 1.0) @ "z"


@ppl.gen
def model(rows):
    z = ppl.normal(0.0, 1.0) @ "z"
    ppl.normal(z * jnp.ones(rows), 1.0) @ "y"


# --- nothing --------------------------------------------------------------------------------------


def test_no_data_is_the_prior():
    prior = ppl.gen(lambda: ppl.normal(0.0, 1.0) @ "z")
    empty = ppl.expectation(lambda p: ppl.elbo(model(0).condition({"y": jnp.zeros(0)}), guide(p)))
    alone = ppl.expectation(lambda p: ppl.elbo(prior(), guide(p)))
    assert empty.value_and_grad(KEY, 0.3) == alone.value_and_grad(KEY, 0.3)
    assert model(0).log_density({"z": 0.5, "y": jnp.zeros(0)}) == prior().log_density({"z": 0.5})


def test_no_rows_to_train_on_are_refused():
    bound = ppl.expectation(lambda p, y: ppl.elbo(model(0).condition({"y": y}), guide(p)))
    with pytest.raises(
        ValueError, match=r"data has no rows: data \[0\]. For an objective without data pass data=None"
    ):
        ppl.fit(bound, 0.0, optax.sgd(0.1), key=KEY, steps=1, data=jnp.zeros(0), progress=False)


DISCRETE = [
    Enumerate(),
    Reinforce(),
    MeasureValued(),
    DisARM(),
    LeaveOneOut(2),
    UnorderedSet(2),
    StochasticTriple(),
]


@pytest.mark.parametrize("how", DISCRETE, ids=lambda how: type(how).__name__)
@pytest.mark.parametrize("form", ["array", "lanes", "steps"])
def test_no_instances_contribute_nothing(how, form):
    def program(p):
        coin = lambda shape: ppl.flip(jax.nn.sigmoid(p + jnp.zeros(shape))).using(how) @ "x"
        if form == "array":
            drawn = coin((0,))
        elif form == "lanes":
            drawn = jax.vmap(lambda _: coin(()))(jnp.zeros(0))
        else:
            drawn = jax.lax.scan(lambda c, _: (c, coin(())), 0.0, None, length=0)[1]
        return jnp.sum(drawn) + p**2

    value, slope = ppl.expectation(program).value_and_grad(KEY, 0.5)
    assert (value, slope) == (0.25, 1.0)


@pytest.mark.parametrize("how", [Reparam(), Reinforce(), MeasureValued()], ids=lambda how: type(how).__name__)
@pytest.mark.parametrize("bound", [ppl.elbo, ppl.iwelbo(3)], ids=["elbo", "iwelbo"])
def test_a_bound_over_no_lanes_is_zero(how, bound):
    one = lambda p: lambda y: bound(model(1).condition({"y": y[None]}), guide(p).using({"z": how}))
    objective = ppl.expectation(lambda p: jnp.sum(jax.vmap(one(p))(jnp.zeros(0))))
    assert objective.value_and_grad(KEY, 0.3) == (0.0, 0.0)


def test_no_parameters():
    program = ppl.expectation(lambda params: ppl.normal(0.0, 1.0) @ "x")
    value, slope = program.value_and_grad(KEY, {})
    assert np.isfinite(value) and slope == {}
    with pytest.raises(TypeError, match="no leaf at all"):
        ppl.fit(program, {}, optax.sgd(0.1), key=KEY, steps=1, progress=False)


def test_parameters_of_no_size_and_of_no_axes():
    program = ppl.expectation(lambda p: jnp.sum(p["none"]) + (ppl.normal(p["scalar"], 1.0) @ "x"))
    start = {"none": jnp.zeros((0, 3)), "scalar": np.float32(0.0)}
    result = ppl.fit(program, start, optax.sgd(0.5), key=KEY, steps=2, progress=False)
    assert result.params["none"].shape == (0, 3) and result.params["scalar"] == 1.0


@pytest.mark.parametrize(
    ("make", "shape"),
    [
        (lambda: ppl.dirichlet(jnp.zeros(0)), r"dirichlet: one draw has shape \(0,\)"),
        (
            lambda: ppl.multivariate_normal(jnp.zeros(0), jnp.zeros((0, 0))),
            r"multivariate_normal: one draw has",
        ),
        (lambda: ppl.categorical(logits=jnp.zeros(0)), r"categorical: the parameter logits"),
    ],
)
def test_events_without_entries_are_refused(make, shape):
    with pytest.raises(e.ParameterError, match=shape + r".*test_extremes\.py:\d+"):
        make()
    assert ppl.dirichlet(jnp.ones((0, 3))).simulate(KEY).log_density == 0.0


# --- precision ------------------------------------------------------------------------------------

NARROW: dict[str, Any] = {
    "normal": lambda p: ppl.normal(p, jnp.exp(p)),
    "laplace": lambda p: ppl.laplace(p, jnp.exp(p)),
    "exponential": lambda p: ppl.exponential(jnp.exp(p)),
    "flip": lambda p: ppl.flip(jax.nn.sigmoid(p)),
    "categorical": lambda p: ppl.categorical(logits=jnp.stack([p, 0 * p, -p])),
}


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("family", NARROW)
def test_narrow_parameters_give_what_wide_ones_do(family, dtype):
    """The noise is drawn in float32 and is the same, so that only roundings differ."""
    program = ppl.gen(lambda p: NARROW[family](p) @ "x")

    @ppl.expectation
    def objective(p):
        trace = program(p).propose()
        return jnp.sum(trace.retval * 1.0) - trace.log_density

    value, slope = objective.value_and_grad(KEY, jnp.asarray(0.25, dtype), num_samples=200)
    wide = objective.value_and_grad(KEY, jnp.float32(0.25), num_samples=200)
    assert (value.dtype, slope.dtype) == (jnp.float32, dtype)
    np.testing.assert_allclose((value, np.float32(slope)), wide, rtol=0.03, atol=0.03)


@pytest.mark.parametrize("dtype", [jnp.float16, jnp.bfloat16])
@pytest.mark.parametrize("bound", [ppl.elbo, ppl.iwelbo(2), ppl.vimco(2)], ids=["elbo", "iwelbo", "vimco"])
def test_weights_of_many_narrow_terms_add_up_in_single_precision(bound, dtype):
    """In eight or eleven bits the sum of 2000 log densities would stop growing at 512 or 4096."""
    rows = jnp.zeros(2_000, dtype)
    target = ppl.gen(
        lambda: (lambda z: ppl.normal(rows + 0 * z, jnp.ones((), dtype)) @ "y")(ppl.normal(0.0, 1.0) @ "z")
    )
    objective = ppl.expectation(lambda p: bound(target().condition({"y": rows}), guide(p)))
    value, slope = objective.value_and_grad(KEY, jnp.zeros((), dtype))
    assert (value.dtype, slope.dtype) == (jnp.float32, dtype)
    assert value == pytest.approx(-2_000 * 0.5 * np.log(2 * np.pi), rel=1e-5)


@ppl.expectation
def several(params):
    k = ppl.categorical(logits=params["logits"]).using(Enumerate()) @ "k"
    x = ppl.normal(params["mean"], 1.0) @ "x"
    y = ppl.normal(params["mean"] * x, 2.0).using(Reinforce()) @ "y"
    w = ppl.normal(params["mean"], 1.0).using(MeasureValued()) @ "w"
    steps = jax.lax.scan(lambda c, _: (ppl.normal(c, 1.0) @ "c", c), params["mean"], None, length=3)[0]
    return jnp.sin(x + k) + y * w + steps


def _floats(jaxpr: Any) -> Iterator[Any]:
    """The dtype of every float in a jaxpr."""
    for equation in jaxpr.eqns:
        yield from (v.aval.dtype for v in equation.outvars if jnp.issubdtype(v.aval.dtype, jnp.floating))
        for inner in jax.tree.leaves(
            equation.params, is_leaf=lambda x: hasattr(x, "eqns") or hasattr(x, "jaxpr")
        ):
            if hasattr(inner, "eqns") or hasattr(inner, "jaxpr"):
                yield from _floats(getattr(inner, "jaxpr", inner))


def _run(dtype: Any) -> Any:
    params = {"logits": jnp.asarray([0.1, -0.2, 0.3], dtype), "mean": jnp.asarray(0.5, dtype)}
    found = several.value_and_grad(KEY, params)
    jaxpr = jax.make_jaxpr(lambda p: several.value_and_grad(KEY, p))(params)
    return found, set(_floats(jaxpr.jaxpr))


def test_single_and_double_precision_hold_nothing_of_each_other():
    (value, slopes), floats = _run(jnp.float32)
    assert floats == {jnp.dtype("float32")}
    assert {x.dtype for x in jax.tree.leaves((value, slopes))} == {jnp.dtype("float32")}
    with jax.enable_x64(True):
        (value, slopes), floats = _run(jnp.float64)
        assert floats == {jnp.dtype("float64")}
        assert {x.dtype for x in jax.tree.leaves((value, slopes))} == {jnp.dtype("float64")}


def test_the_exact_value_of_several_choices_needs_no_key():
    """It draws nothing; the keys of the addresses are not derived."""
    both = ppl.expectation(
        lambda p: (ppl.flip(p) @ "a") * 1.0 + (ppl.flip(p) @ "b") * (ppl.flip(0.5) @ ("c", "d"))
    )
    assert both.exact(0.25) == pytest.approx(0.25 + 0.25 * 0.5)


def test_single_and_double_precision_agree_where_nothing_is_drawn():
    def exact() -> Any:
        @ppl.expectation
        def program(logits):
            a = ppl.categorical(logits=logits) @ "a"
            b = ppl.flip(jax.nn.sigmoid(logits[a])) @ "b"
            return jnp.where(b, jnp.sin(1.0 + a), a * 0.3)

        logits = jnp.asarray([0.1, -0.2, 0.3], float)
        score = lambda m: model(3).log_density({"z": 0.3 * m, "y": jnp.arange(3.0) * m})
        return jax.value_and_grad(program.exact)(logits), jax.value_and_grad(score)(jnp.asarray(0.7, float))

    single = exact()
    with jax.enable_x64(True):
        double = exact()
        jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), single, double)


# --- size -----------------------------------------------------------------------------------------


def long(number: int) -> Any:
    @ppl.gen
    def program():
        for i in range(number):
            ppl.normal(0.0, 1.0) @ f"x{i}"

    return program()


def test_one_misspelt_address_among_thousands_is_found_at_once():
    """The message names it and its neighbor, and not the others."""
    choices: dict[str, Any] = dict.fromkeys([f"x{i}" for i in range(2_000)], 0.0)
    choices["xx500"] = choices.pop("x500")
    with pytest.raises(
        e.UnusedChoice, match=r"^'xx500' is no.*'x0', 'x1'.*and 1980 more.*mean 'x500'\?"
    ) as caught:
        long(2_000).log_density(choices)
    assert "Missing: 'x500' (normal" in str(caught.value)
    assert len(str(caught.value)) < 1_000


def test_a_gradient_two_hundred_programs_deep():
    def nested(leaf: Any) -> Any:
        program = ppl.gen(leaf)
        for _ in range(200):
            program = (lambda inner: ppl.gen(lambda *args: inner(*args) @ "s"))(program)
        return program

    target, proposal = nested(lambda: ppl.normal(0.0, 1.0) @ "x"), nested(lambda p: ppl.normal(p, 1.0) @ "x")
    bound = ppl.expectation(lambda p: ppl.elbo(target(), proposal(p)))
    assert bound.grad(KEY, 0.5, num_samples=2).shape == ()
    wrong = nested(lambda p: ppl.normal(p, 1.0) @ "y")
    with pytest.raises(e.UnusedChoice, match=r"'s/s/.*/y' is no choice.*mean '.*/x'\?"):
        ppl.expectation(lambda p: ppl.elbo(target(), wrong(p))).grad(KEY, 0.5)


def categories(number: int, size: int) -> Any:
    @ppl.expectation
    def program(p):
        total = 1.0
        for i in range(number):
            total = jnp.cos(
                total
                * (1.0 + (ppl.categorical(logits=p * jnp.arange(1.0 * size)).using(Enumerate()) @ f"c{i}"))
            )
        return total

    return program


def dependent(number: int, size: int) -> Any:
    @ppl.expectation
    def program(p):
        one = lambda _: ppl.categorical(logits=p * jnp.arange(1.0 * size)).using(Enumerate()) @ "k"
        return jnp.cos(jnp.sum(jax.vmap(one)(jnp.arange(number))))

    return program


def markov(length: int, size: int) -> Any:
    @ppl.expectation
    def program(p):
        def step(c, _):
            x = ppl.categorical(logits=p * jnp.arange(1.0 * size) * jnp.cos(1.0 + c)).using(Enumerate()) @ "k"
            return x, jnp.sin(1.0 * x)

        return jnp.sum(jax.lax.scan(step, 0, None, length=length)[1])

    return program


HUGE: dict[str, tuple[Any, str, str]] = {
    "twenty of ten": (
        categories(20, 10),
        "grad",
        r"100000000000000000000 evaluations.*Reinforce.*for 'c0', .*leaves",
    ),
    "twenty of ten, value": (categories(20, 10), "estimate", r"Reinforce.*for 'c0'"),
    "twenty of ten, surrogate": (categories(20, 10), "surrogate", r"Reinforce.*for 'c0'"),
    "twenty of ten, exact": (
        categories(20, 10),
        "exact",
        r"'c0' \(categorical, .*10 values.*and so on.*`estimate`",
    ),
    "one of a million": (categories(1, 10**6), "grad", r"Reinforce.*for 'c0'"),
    "lanes that interact": (
        dependent(100_000, 1_000),
        "grad",
        r"99900000 further runs.*'k' \(categorical.*Reinforce",
    ),
    "lanes that interact, exact": (
        dependent(20, 10),
        "exact",
        r"'k' \(categorical.*10 values in 20 instances",
    ),
    "a chain of many states": (
        markov(100_000, 1_000),
        "grad",
        r"99900000 further runs.*too many states.*Reinforce",
    ),
    "a chain, exact": (markov(20, 1_000), "exact", r"'k' \(categorical.*1000 values in 20 instances"),
}


@pytest.mark.parametrize("name", HUGE)
def test_a_huge_enumeration_is_refused_before_it_is_allocated(name):
    program, method, pattern = HUGE[name]
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    arguments = (0.3,) if method == "exact" else (KEY, 0.3)
    with pytest.raises(e.UnsupportedProgram, match=pattern):
        getattr(program, method)(*arguments)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 300_000  # kilobytes


@pytest.mark.parametrize("program", [dependent(4, 3), markov(5, 3)])
def test_a_small_one_is_not(program):
    assert np.isfinite(program.grad(KEY, 0.3)) and np.isfinite(program.exact(0.3))
