"""What staging refuses: addresses used twice, and choices where no rule reaches. Messages are checked."""

import inspect
import re

import jax
import jax.numpy as jnp
import pytest

from ppl import UnsupportedProgram, gen, laplace, normal
from ppl.errors import ChoiceOutsideProgram, DuplicateAddress

KEY = jax.random.key(0)


def line(offset=0):
    """A pattern for a line of this file, counted from the caller's."""
    return rf"test_stage\.py:{inspect.currentframe().f_back.f_lineno + offset}\b"


def refusal(program, error):
    """The message with which the program is refused, whichever way it is staged."""
    messages = set()
    for call in (program.stage, lambda: program.simulate(KEY), lambda: program.log_density({})):
        with pytest.raises(error) as caught:
            call()
        messages.add(str(caught.value))
    assert len(messages) == 1
    return messages.pop()


def assert_duplicate(function, address, first, again):
    message = refusal(gen(function)(), DuplicateAddress)
    pattern = rf"address '{address}' is used twice:\s+first at .*{first}.*\s+again at .*{again}"
    assert re.search(pattern, message), message
    assert "own address" in message


def test_an_address_used_twice():
    def program():
        normal(0.0, 1.0) @ "x"
        laplace(0.0, 1.0) @ "x"

    assert_duplicate(program, "x", line(-3), line(-2))


def test_an_address_used_twice_through_inlining():
    inner = gen(lambda: normal(0.0, 1.0) @ "x")
    where = line(-1)

    def program():
        normal(0.0, 1.0) @ "x"
        inner() @ ()

    assert_duplicate(program, "x", line(-3), where)


def test_an_address_used_twice_through_nested_programs_shows_the_calls():
    inner = gen(lambda: normal(0.0, 1.0) @ "x")

    def program():
        inner() @ "sub"
        inner() @ "sub"

    assert_duplicate(program, "sub/x", line(-3), line(-2))


def test_a_nested_and_a_tuple_address_that_coincide():
    inner = gen(lambda: normal(0.0, 1.0) @ "x")

    def program():
        normal(0.0, 1.0) @ ("sub", "x")
        inner() @ "sub"

    assert_duplicate(program, "sub/x", line(-3), r"test_stage\.py:\d+")


def test_a_jitted_function_called_twice_shows_both_calls():
    inner = jax.jit(lambda: normal(0.0, 1.0) @ "x")

    def program():
        inner()
        inner()

    assert_duplicate(program, "x", line(-3), line(-2))


def test_a_python_loop_in_lanes():
    def program():
        jax.vmap(lambda m: [normal(m, 1.0) @ "x" for _ in range(2)])(jnp.zeros(3))

    assert_duplicate(program, "x", line(-2), line(-2))


def test_one_address_inside_and_after_a_conditional():
    def program():
        jax.lax.cond(normal(0.0, 1.0) @ "p" > 0, lambda: normal(0.0, 1.0) @ "x", lambda: 0.0)
        normal(0.0, 1.0) @ "x"

    assert_duplicate(program, "x", line(-3), line(-2))


def test_one_address_in_two_conditionals():
    def program():
        for _ in range(2):
            jax.lax.cond(True, lambda: normal(0.0, 1.0) @ "x", lambda: 0.0)

    assert_duplicate(program, "x", line(-2), line(-2))


def test_one_address_in_two_mapped_conditionals():
    lane = lambda p: jax.lax.cond(p, lambda: normal(0.0, 1.0) @ "x", lambda: 0.0)

    def program():
        for _ in range(2):
            jax.vmap(lane)(jnp.ones(2, bool))

    assert_duplicate(program, "x", line(-6), line(-6))


def test_one_address_in_two_loops():
    def program():
        for _ in range(2):
            jax.lax.scan(lambda c, _: (c, normal(0.0, 1.0) @ "x"), 0.0, None, length=2)

    assert_duplicate(program, "x", line(-2), line(-2))


def test_an_address_below_a_choice():
    def program():
        normal(0.0, 1.0) @ "x"
        normal(0.0, 1.0) @ ("x", "y")

    message = refusal(gen(program)(), DuplicateAddress)
    assert re.search(rf"'x' names a choice at .*{line(-4)}.*'x/y'.*{line(-3)}.*Rename", message), message


def test_one_address_of_two_shapes_in_two_branches():
    wide = lambda: jnp.sum(normal(jnp.zeros(2), 1.0) @ "x")
    narrow = lambda: normal(0.0, 1.0) @ "x"
    message = refusal(gen(lambda: jax.lax.cond(True, wide, narrow))(), DuplicateAddress)
    pattern = rf"'x' has shape .*branch \(.*{line(-2)}.*in another \(.*{line(-3)}.*Use two addresses"
    assert re.search(pattern, message, re.DOTALL), message
    assert r"(2,)" in message and "float32" in message


def test_one_address_may_stand_in_branches_that_exclude_each_other():
    @gen
    def program():
        k = jax.lax.cond(True, lambda: normal(0.0, 1.0) @ "x", lambda: laplace(0.0, 1.0) @ "x")
        return jax.vmap(
            lambda p: jax.lax.cond(p, lambda: normal(0.0, 1.0) @ "y", lambda: laplace(k, 1.0) @ "y")
        )(jnp.array([True, False]))

    assert sorted(program().simulate(KEY).choices) == ["x", "y"]


def choose():
    return normal(0.0, 1.0) @ "hidden"


def solved():
    return jax.lax.custom_linear_solve(
        lambda v: 2.0 * v, 1.0, lambda _, b: b / 2 + (normal(0.0, 1.0) @ "hidden"), symmetric=True
    )


def custom_vmapped():
    f = jax.custom_batching.custom_vmap(lambda x: normal(x, 1.0) @ "hidden")
    f.def_vmap(lambda size, mapped, x: (x, mapped[0]))
    return f(1.0)


def sharded():
    mesh = jax.make_mesh((1,), ("i",), axis_types=(jax.sharding.AxisType.Auto,))
    spec = jax.sharding.PartitionSpec("i")
    return jax.shard_map(lambda x: normal(x, 1.0) @ "hidden", mesh=mesh, in_specs=spec, out_specs=spec)(
        jnp.zeros(1)
    )


CLOSED = {"custom_linear_solve": solved, "custom_vmap": custom_vmapped, "shard_map": sharded}


@pytest.mark.parametrize("name", CLOSED)
def test_a_choice_below_a_primitive_without_a_rule_is_refused_by_name(name):
    with pytest.raises(UnsupportedProgram) as caught:
        gen(CLOSED[name])().simulate(KEY)
    pattern = (
        rf"'hidden' \(normal, .*test_stage\.py:\d+.*\) lies inside `{name}\w*`.*test_stage\.py:\d+.*Move"
    )
    assert re.search(pattern, str(caught.value)), str(caught.value)


@pytest.mark.parametrize("transform", [jax.grad, jax.value_and_grad, lambda f: jax.jit(jax.grad(f))])
def test_a_choice_that_the_program_differentiates_is_refused(transform):
    program = gen(lambda: transform(lambda m: normal(m, 1.0) @ "hidden")(0.5))
    message = refusal(program(), UnsupportedProgram)
    assert re.search(rf"'hidden' \(normal, .*{line(-2)}.*differentiates.*outside", message), message


def test_a_program_may_differentiate_what_holds_no_choice():
    program = gen(lambda: jax.grad(jnp.sin)(normal(0.0, 1e-6) @ "x"))
    assert program().simulate(KEY).retval == pytest.approx(1.0, abs=1e-4)


def test_a_choice_in_a_callback_is_refused_when_it_runs():
    @gen
    def program():
        return jax.pure_callback(choose, jax.ShapeDtypeStruct((), jnp.float32))

    with pytest.raises(
        (ChoiceOutsideProgram, jax.errors.JaxRuntimeError), match=r"'hidden'.*outside any program"
    ):
        jax.block_until_ready(program().simulate(KEY))


def test_a_choice_in_a_loop_of_unknown_length():
    def program():
        return jax.lax.while_loop(lambda x: x < 3.0, lambda x: x + jnp.exp(normal(0.0, 1.0) @ "x"), 0.0)

    message = refusal(gen(program)(), UnsupportedProgram)
    assert re.search(rf"'x' \(normal, .*{line(-3)}.*while loop.*(scan|fori_loop)", message), message


def test_a_choice_in_the_condition_of_a_while_loop():
    def program():
        return jax.lax.while_loop(lambda x: (normal(0.0, 1.0) @ "x") > x, lambda x: x + 1, 0.0)

    with pytest.raises(UnsupportedProgram, match=r"while.*"):
        gen(program)().simulate(KEY)


def test_loops_without_choices_are_left_alone():
    @gen
    def program():
        x = normal(0.0, 1.0) @ "x"
        return jax.lax.while_loop(lambda s: s < 10.0, lambda s: s + 1 + 0 * x, x)

    assert program().simulate(KEY).retval >= 10.0
