"""Expectations: programs whose expected value is estimated and differentiated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ppl.compiled import compiled
from ppl.distributions.density import moving_support
from ppl.errors import UnsupportedProgram
from ppl.inner import expect_p
from ppl.noise import SAMPLES, Token, check_key
from ppl.source import user_line
from ppl.transforms import jax_internals as internals
from ppl.transforms.continuity import check_continuity
from ppl.transforms.diagnose import first_nonfinite
from ppl.transforms.enumerate import exact
from ppl.transforms.gradient import surrogate
from ppl.transforms.stage import Arguments, Staged, split, stage
from ppl.undifferentiated import fixed


class Expectation:
    """The expected value of a program that returns one real number.

    Every method takes a key first, then the program's arguments. `num_samples` averages that many
    independent runs. Derivatives are with respect to the first argument unless `argnums` says otherwise;
    of an argument that is a pytree, with respect to its floating-point arrays, the rest getting `None`.

    Methods are compiled on first use and cached; under an outer `jax.jit` they are inlined.

    Example:
        >>> import jax, ppl
        >>> @ppl.expectation
        ... def second_moment(mean):
        ...     return (ppl.normal(mean, 1.0) @ "x") ** 2
        >>> value, slope = second_moment.value_and_grad(jax.random.key(0), 0.5, num_samples=100_000)
        >>> float(value.round(1)), float(slope.round(1))  # 1 + mean**2 and 2 * mean
        (1.3, 1.0)
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)  # pyright: ignore[reportArgumentType]

    def __repr__(self) -> str:
        return f"<expectation {getattr(self.function, '__qualname__', self.function)}>"

    def __hash__(self) -> int:
        return hash((Expectation, self.function))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expectation) and self.function == other.function

    def estimate(self, key: jax.Array, *args: Any, num_samples: int = 1) -> jax.Array:
        """An unbiased estimate of the expected value; exact in the choices that are enumerated jointly.

        The result refuses to be differentiated: its derivative is not that of the expected value.
        """
        return compiled(_Estimate(self), check_key(key), args, num_samples)

    def grad(self, key: jax.Array, *args: Any, argnums: Any = 0, num_samples: int = 1) -> Any:
        """An unbiased estimate of the gradient of the expected value.

        For higher derivatives differentiate `surrogate`: the result of `grad` refuses to be differentiated.

        Raises:
            DiscontinuousReparameterization: a reparameterized value reaches a jump.
        """
        return self.value_and_grad(key, *args, argnums=argnums, num_samples=num_samples)[1]

    def value_and_grad(
        self, key: jax.Array, *args: Any, argnums: Any = 0, num_samples: int = 1
    ) -> tuple[jax.Array, Any]:
        """Unbiased estimates of the expected value and of its gradient, from the same runs."""
        return compiled(_ValueAndGrad(self), check_key(key), args, argnums, num_samples)

    def jvp(
        self, key: jax.Array, primals: Sequence[Any], tangents: Sequence[Any], *, num_samples: int = 1
    ) -> tuple[jax.Array, jax.Array]:
        """Unbiased estimates of the expected value and of its derivative along `tangents`.

        Forward mode; loops of unknown length are allowed. `primals` and `tangents` are sequences, one
        entry for each argument, as for `jax.jvp`.
        """
        return compiled(_Jvp(self), check_key(key), tuple(primals), tuple(tangents), num_samples)

    def surrogate(self, key: jax.Array, *args: Any, num_samples: int = 1) -> jax.Array:
        """The differentiable function itself.

        For a fixed key it is an ordinary JAX function of `args`. Over keys its expected value is that of
        the program, and so is each of its derivatives, of any order (`jax.grad`, `jax.hessian`, ...).

        Raises:
            DiscontinuousReparameterization: a value that moves with any of the arguments reaches a jump.
        """
        check_key(key)
        staged = self._stage(args)
        check_continuity(
            staged.jaxpr, [_is_float(x) for x in staged.arrays], reverse=False, moving_support=moving_support
        )
        return _average(staged, key, num_samples, order=2)

    def exact(self, *args: Any) -> jax.Array:
        """The expected value itself, by summing over every choice; differentiable.

        Raises:
            UnsupportedProgram: a choice has no finite support, or there are too many combinations.
        """
        return compiled(_Exact(self), args)

    def first_nonfinite(self, key: jax.Array, *args: Any, num_samples: int = 1) -> str | None:
        """The first draw or log density that is not finite in the runs of `key`, in words."""
        staged = self._stage(args)
        return first_nonfinite(staged.jaxpr, staged.arrays, check_key(key), num_samples)

    def _stage(self, args: tuple[Any, ...]) -> Staged:
        return self._check_scalar(stage(self.function, split((args, {}), floats=True)))

    def _check_scalar(self, staged: Staged) -> Staged:
        avals = staged.jaxpr.out_avals
        if len(avals) != 1 or avals[0].shape != () or not jnp.issubdtype(avals[0].dtype, jnp.floating):
            found = ", ".join(aval.str_short() for aval in avals) or "nothing"
            raise UnsupportedProgram(
                f"{self!r} must return one real number, and returns {found}. Reduce it, for example by "
                "jnp.sum or jnp.mean."
            )
        return staged


def expectation(function: Callable[..., Any]) -> Expectation:
    """Make an expectation of a program that returns one real number. See `Expectation`."""
    return Expectation(function)


def expect(function: Callable[..., Any]) -> Callable[..., jax.Array]:
    """Inside a program: an inner expectation.

    `expect(f)(*args)` is an unbiased estimate of the expected value of `f(*args)`, drawn anew in each
    lane and step. The estimators inside see only `f` itself: the score of a choice in `f` multiplies the
    result of `f`, not that of the whole program.

    The estimate must be used linearly (added, scaled, summed): the expected value of a nonlinear function
    of it is not the function of the expected value.

    Example:
        >>> import jax, ppl
        >>> def bet(p):
        ...     return jax.numpy.where(ppl.flip(p) @ "win", 0.0, -p / 2)
        >>> @ppl.expectation
        ... def two_bets(p):
        ...     return ppl.expect(bet)(p) + 3 * ppl.expect(bet)(p)
        >>> float(two_bets.estimate(jax.random.key(0), 0.4).round(2))
        -0.48
    """
    wrapped = Expectation(function)

    def bound(*args: Any) -> jax.Array:
        staged = wrapped._stage(args)
        jaxpr, consts = internals.without_consts(staged.jaxpr)
        operands = [jnp.asarray(x) for x in (*consts, *staged.arrays)]
        mapped = ((),) * len(operands)
        return expect_p.bind(*operands, jaxpr=jaxpr, lanes=(), mapped=mapped, source=user_line())[0]

    return functools.update_wrapper(bound, function)


_VALUE = (
    "`estimate` gives a value; its derivative is not that of the expected value. Use `grad` or "
    "`value_and_grad`, or differentiate `surrogate`."
)
_ONCE = (
    "`grad`, `value_and_grad` and `jvp` derive a program that is right for one derivative only. For higher "
    "derivatives differentiate `surrogate`: jax.hessian(lambda x: objective.surrogate(key, x))."
)


def _is_float(x: Any) -> bool:
    return jnp.issubdtype(jnp.result_type(x), jnp.inexact)


def _average(staged: Staged, key: jax.Array, num_samples: int, order: int) -> jax.Array:
    """The mean surrogate of independent runs, whose noise is drawn as one block."""
    if num_samples == 1:
        return surrogate(staged.jaxpr, staged.arrays, key, Token(), order)

    def run(own: Any) -> Any:
        return surrogate(staged.jaxpr, staged.arrays, key, Token(own), order, num_samples)

    return jnp.mean(jax.vmap(run, axis_name=SAMPLES)(jnp.zeros(num_samples, bool)), axis=0)


class _Method:
    """A method of an expectation as a hashable function, so that its compilation is found again."""

    def __init__(self, of: Expectation) -> None:
        self.of = of

    def __hash__(self) -> int:
        return hash((type(self), self.of))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.of == other.of  # type: ignore[attr-defined]


class _Estimate(_Method):
    def __call__(self, key: jax.Array, args: tuple[Any, ...], num_samples: int) -> jax.Array:
        return _average(fixed(self.of._stage(args), _VALUE), key, num_samples, order=0)


class _Exact(_Method):
    def __call__(self, args: tuple[Any, ...]) -> jax.Array:
        staged = self.of._stage(args)
        return exact(staged.jaxpr, staged.arrays)


class _Jvp(_Method):
    def __call__(self, key: jax.Array, primals: Any, tangents: Any, num_samples: int) -> Any:
        parts = split((primals, {}), floats=True)
        moving = [_is_float(x) for x in parts.arrays]
        directions = split((tangents, {}), floats=True).arrays
        if len(directions) != sum(moving):
            directions = [t for t, move in zip(directions, moving, strict=True) if move]
        function, floats = _objective(self.of, parts, moving, key, num_samples, reverse=False)
        directions = [jnp.asarray(t, x.dtype) for t, x in zip(directions, floats, strict=True)]
        return jax.jvp(function, (floats,), (directions,))


class _ValueAndGrad(_Method):
    def __call__(self, key: jax.Array, args: tuple[Any, ...], argnums: Any, num_samples: int) -> Any:
        numbers = (argnums,) if isinstance(argnums, int) else tuple(argnums)
        wanted = {number % len(args) for number in numbers if -len(args) <= number < len(args)}
        if len(wanted) != len(numbers):
            raise TypeError(
                f"argnums={argnums} does not name arguments of {self.of!r}, which got {len(args)}"
            )
        parts = split((args, {}), floats=True)
        flags = [i in wanted for i, arg in enumerate(args) for _ in split(arg, floats=True).arrays]
        moving = [flag and _is_float(x) for flag, x in zip(flags, parts.arrays, strict=True)]
        function, floats = _objective(self.of, parts, moving, key, num_samples, reverse=True)
        value, slopes = jax.value_and_grad(function)(floats)
        grads = _gradients(parts, moving, slopes)
        picked = tuple(grads[number] for number in numbers)
        return value, picked[0] if isinstance(argnums, int) else picked


def _gradients(parts: Arguments, moving: list[bool], slopes: list[Any]) -> Any:
    """The gradient in the structure of the arguments, `None` for whatever is not differentiated."""
    remaining = iter(slopes)
    arrays = [next(remaining) if move else None for move in moving]
    blank = parts._replace(static=tuple(s if parts.is_array(s) else None for s in parts.static))
    return blank.rebuild(arrays)[0]


def _objective(
    of: Expectation, parts: Arguments, moving: list[bool], key: jax.Array, num_samples: int, *, reverse: bool
) -> tuple[Callable[[list[Any]], jax.Array], list[Any]]:
    """The surrogate, good for one derivative, as a function of the arrays that move; and these arrays."""
    staged = of._check_scalar(stage(of.function, parts))
    check_continuity(staged.jaxpr, moving, reverse=reverse, moving_support=moving_support)
    staged = fixed(staged, _ONCE)

    def function(floats: list[Any]) -> jax.Array:
        remaining = iter(floats)
        arrays = [next(remaining) if move else x for x, move in zip(staged.arrays, moving, strict=True)]
        return _average(staged._replace(arrays=arrays), key, num_samples, order=1)

    return function, [x for x, move in zip(staged.arrays, moving, strict=True) if move]
