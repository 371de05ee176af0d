"""Equations in NumPy, with worlds in front of some operands, are what JAX makes of them under `vmap`."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.testing.evaluate import _ELEMENTWISE, _STRUCTURAL, _compiled, apply
from ppl.transforms.tag import tagged

A, B, C = (np.random.default_rng(i).normal(size=shape) for i, shape in enumerate([(3, 2), (3, 2), (2, 4)]))
N = np.array([[5, -3], [7, 12], [-8, 6]])
INSIDE = np.array([0.05, 0.3, 0.17])  # with worlds below one, where every function is defined
MATRICES = np.random.default_rng(3).normal(size=(4, 3, 2)), np.random.default_rng(4).normal(size=(4, 2, 5))

CASES: dict[str, tuple[Callable[..., Any], tuple[Any, ...]]] = {
    "arithmetic": (lambda a, b: a * b - a / b + jnp.maximum(a, jnp.minimum(b, 0.2)), (A, B)),
    "a scalar and an array": (lambda a, b: a + b, (np.array(1.5), B)),
    "choice": (lambda a, b: jnp.where(a > b, a, b), (A, B)),
    "choice by a scalar": (lambda p, a, b: jax.lax.select(p, a, b), (np.array(True), A, B)),
    "sum": (lambda a: jnp.sum(a, 0) + jnp.max(a), (A,)),
    "running sum": (lambda a: jax.lax.cumsum(a, 0, reverse=True), (A,)),
    "broadcast": (lambda a: jax.lax.broadcast_in_dim(a, (5, 3, 2), (1, 2)), (A,)),
    "concatenate": (lambda a, b: jnp.concatenate([a, b], axis=1), (A, B)),
    "stack": (lambda a, b: jnp.stack([a, b], axis=1), (A, B)),
    "unstack": (lambda a: sum(x * (i + 1) for i, x in enumerate(a)), (A,)),
    "split": (lambda a: jax.lax.split(a, [1, 2], axis=0)[1], (A,)),
    "reverse": (lambda a: jax.lax.rev(a, (0,)), (A,)),
    "clamp": (lambda a: jax.lax.clamp(-0.5, a, 0.5), (A,)),
    "matrix product": (lambda a, c: a @ c, (A, C)),
    "batches of products": (lambda a, b: a @ b, MATRICES),
    "contraction of two axes": (lambda a, b: jnp.tensordot(a, b, axes=2), (A, B)),
    "product of vectors": (lambda a, b: a[0] @ b[1], (A, B)),
    "pad": (lambda a: jax.lax.pad(a, 0.7, [(1, 2, 0), (0, 1, 0)]), (A,)),
    "pad, inside and cut": (lambda a: jax.lax.pad(a, 0.7, [(1, 2, 1), (-1, 1, 0)]), (A,)),
    "slice": (lambda a: a[1:, ::2], (A,)),
    "whole numbers": (lambda a: jnp.argmax(a, 1) // 2, (A,)),
    "reshape": (lambda a: jax.lax.reshape(a, (2, 3)), (A,)),
    "reshape in another order of axes": (lambda a: jax.lax.reshape(a, (2, 3), dimensions=(1, 0)), (A,)),
    "transpose": (lambda c: jnp.transpose(c[None], (2, 0, 1)), (C,)),
    "derivative of a product": (jax.jacrev(jax.grad(lambda a: jnp.prod(a[:, 0]))), (A,)),
    "product and minimum": (lambda a: jnp.prod(a, 0) + jax.lax.reduce_min(a, (0,)), (A,)),
    "running sum, forward": (lambda a: jax.lax.cumsum(a, 1), (A,)),
    "masks": (lambda a, b: jnp.all((a > b) | ~(a < 0), 1) & jnp.any((a == b) ^ (a != b), 1), (A, B)),
    "bits": (
        lambda n: (jax.lax.reduce_and_p.bind(n, axes=(0,)), jax.lax.reduce_or_p.bind(n, axes=(0,))),
        (N,),
    ),
    "bits of two": (lambda n: (n & 6) | ~n, (N,)),
    "remainder": (lambda n, a, b: (jax.lax.rem(n, 3), jax.lax.rem(a, b)), (N, A, B)),
    "powers": (lambda a: (a**3, a**-2, jnp.square(a), jnp.abs(a) ** 1.3), (A,)),
    "comparisons": (lambda a, b: (a <= b, a >= b, jnp.isfinite(a / (a - a[0]))), (A, B)),
    "conversion": (lambda a: (5 * a).astype(int) + a.astype(bool), (A,)),
    "nothing": (lambda a: jax.lax.stop_gradient(jax.lax.optimization_barrier(jnp.copy(a))), (A,)),
    "tags": (lambda a: ppl.one_term(a) + tagged(a, "x"), (A,)),
}
UNARY = (
    "neg exp log log1p expm1 tanh sinh cosh atan asin acos tan log2 exp2 erf erfc erf_inv bessel_i0e "
    "bessel_i1e sin cos sqrt rsqrt abs sign logistic lgamma digamma floor"
)
CASES |= {name: (getattr(jax.lax, name), (INSIDE,)) for name in UNARY.split()}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("case", CASES)
def test_an_equation_is_what_jax_makes_of_it(case: str) -> None:
    """Each equation, with each choice of operands that have worlds, from the values that lead up to it."""
    function, operands = CASES[case]
    closed = jax.make_jaxpr(function)(*operands)
    known = dict(zip(closed.jaxpr.constvars, closed.consts, strict=True))
    known |= dict(zip(closed.jaxpr.invars, operands, strict=True))
    read = lambda atom: np.asarray(atom.val if hasattr(atom, "val") else known[atom])
    for equation in closed.jaxpr.eqns:
        plain = [read(v) for v in equation.invars]
        for mapped in itertools.product([False, True], repeat=len(plain)):
            worlds = [_worlds(x) if m else x for x, m in zip(plain, mapped, strict=True)]
            found = apply(equation, worlds, list(mapped))
            wanted = _compiled(equation, worlds, list(mapped))
            for one, other in zip(found, wanted, strict=True):
                one = np.broadcast_to(one, other.shape)  # the same in all worlds
                np.testing.assert_allclose(one, other, rtol=1e-12, atol=1e-12)
        outputs = _compiled(equation, plain, [False] * len(plain))
        known |= dict(zip(equation.outvars, outputs, strict=True))


def test_every_primitive_that_is_written_in_numpy_has_a_case() -> None:
    jaxprs = [jax.make_jaxpr(function)(*operands) for function, operands in CASES.values()]
    shown = {equation.primitive.name for closed in jaxprs for equation in closed.jaxpr.eqns}
    assert not {*_ELEMENTWISE, *_STRUCTURAL} - shown


def _worlds(x: Any) -> Any:
    """Five of them, all different."""
    if x.dtype == bool:
        return np.stack([x, ~x, x, x, ~x])
    return np.stack([x + 0.1 * i if x.dtype.kind == "f" else x + i for i in range(5)])
