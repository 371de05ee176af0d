"""Derivatives that would be wrong are refused in every mode, and at any depth of control flow."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.refusal import differentiated_once, held_constant, undifferentiated, unmoved

WHERE: dict[str, Callable[[Any], Any]] = {
    "straight": lambda f: f,
    "jit": lambda f: jax.jit(lambda a: jax.jit(f)(a)),
    "vmap": lambda f: lambda a: jnp.sum(jax.vmap(f)(a * jnp.arange(1.0, 3.0))),
    "scan": lambda f: lambda a: jax.lax.scan(lambda c, x: (c + f(a * x), None), 0.0, jnp.arange(1.0, 3.0))[0],
    "cond": lambda f: lambda a: jax.lax.cond(a > 0, f, lambda a: a, a),
    "checkpoint": lambda f: lambda a: jnp.sin(jax.checkpoint(f)(a)),
}
ONCE = {"forward": jax.jacfwd, "reverse": jax.grad, "jit": lambda f: jax.jit(jax.grad(jax.jit(f)))}
TWICE = {
    "forward-forward": lambda f: jax.jacfwd(jax.jacfwd(f)),
    "hessian": jax.hessian,
    "reverse-forward": lambda f: jax.grad(jax.jacfwd(f)),
    "reverse-reverse": lambda f: jax.grad(jax.grad(f)),
    "jit": lambda f: jax.jacfwd(jax.jit(jax.grad(jax.jit(f)))),
}
where = pytest.mark.parametrize("where", WHERE)


@where
def test_a_first_derivative_passes_and_a_second_does_not(where: str) -> None:
    functions = {
        "moves itself": (lambda a: differentiated_once(3 * a, a, "why"), lambda a: 3 * a),
        "is a square": (lambda a: differentiated_once(a**2, a, "why"), lambda a: a**2),
        "its witness moves": (
            lambda a: differentiated_once(jax.lax.stop_gradient(a), a, "why") * a,
            lambda a: jax.lax.stop_gradient(a) * a,
        ),
    }
    for once, plain in functions.values():
        once, plain = WHERE[where](once), WHERE[where](plain)
        np.testing.assert_allclose(once(2.0), plain(2.0), rtol=1e-6)
        for derivative in ONCE.values():
            np.testing.assert_allclose(derivative(once)(2.0), jax.grad(plain)(2.0), rtol=1e-6)
        for derivative in TWICE.values():
            with pytest.raises(ppl.UnsupportedProgram, match="why"):
                derivative(once)(2.0)


@where
def test_a_held_constant_has_no_derivative(where: str) -> None:
    held = WHERE[where](lambda a: held_constant({"x": a**2})["x"] * a)
    plain = WHERE[where](lambda a: jax.lax.stop_gradient(a**2) * a)
    np.testing.assert_allclose(held(2.0), plain(2.0), rtol=1e-6)
    for derivative in (*ONCE.values(), *TWICE.values()):
        np.testing.assert_allclose(derivative(held)(2.0), derivative(plain)(2.0), rtol=1e-6)


@where
def test_a_witness_must_not_move(where: str) -> None:
    for b, refused in ((lambda a: 2.0, False), (jax.lax.stop_gradient, False), (lambda a: a, True)):
        function = WHERE[where](lambda a: unmoved(a**3, b(a) * 1.0, "it moves"))  # noqa: B023
        plain = WHERE[where](lambda a: a**3)
        for derivative in (*ONCE.values(), *TWICE.values()):
            if refused:
                with pytest.raises(ppl.UnsupportedProgram, match="it moves"):
                    derivative(function)(2.0)
            else:
                np.testing.assert_allclose(derivative(function)(2.0), derivative(plain)(2.0), rtol=1e-5)


@where
def test_no_derivative_at_all(where: str) -> None:
    tree = lambda a: undifferentiated({"x": a, "n": 3, "key": jax.random.key(0)}, "none")["x"]
    function = WHERE[where](tree)
    assert np.isfinite(function(2.0))
    for derivative in ONCE.values():
        with pytest.raises(ppl.UnsupportedProgram, match="none"):
            derivative(function)(2.0)


def test_lanes_of_the_witness_alone() -> None:
    """The number stays one; whether the witness moves is asked of all lanes."""
    function = lambda a, f: jax.vmap(lambda w: unmoved(1.0 * a, w, "it moves"), out_axes=None)(
        f(a) * jnp.ones(3)
    )
    assert jax.grad(lambda a: function(a, lambda a: 2.0))(2.0) == 1.0
    with pytest.raises(ppl.UnsupportedProgram, match="it moves"):
        jax.grad(lambda a: function(a, lambda a: a))(2.0)


@pytest.mark.parametrize("twice", TWICE)
def test_a_second_derivative_of_an_implicit_draw_in_a_loop(twice: str) -> None:
    """A hessian through a loop once passed a draw whose second derivative is not known, and was wrong."""

    def program(t: Any) -> Any:
        step = lambda c, _: (c + ppl.gamma(t, 1.0).propose().retval ** 2, None)
        return jax.lax.scan(step, 0.0, None, 2)[0]

    objective = ppl.expectation(program)
    surrogate = lambda t: objective.surrogate(jax.random.key(0), t)
    assert np.isfinite(jax.grad(surrogate)(2.0))
    with pytest.raises(ppl.UnsupportedProgram, match=r"second derivative .* of gamma"):
        TWICE[twice](surrogate)(2.0)
