"""Expectations: programs whose expected value is estimated and differentiated."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ppl.choose import Using, layered
from ppl.compiled import compiled
from ppl.derived import average, derived, is_float, moving_arrays, picked, samples, surrogate_of
from ppl.distributions import ends
from ppl.errors import UnsupportedProgram
from ppl.inner import expect_p
from ppl.learning import (
    Learning,
    by_name,
    has_control,
    initial,
    is_learning,
    through_estimators_only,
    updated,
)
from ppl.noise import check_key
from ppl.source import user_line
from ppl.transforms import jax_internals as internals
from ppl.transforms.continuity import check_continuity
from ppl.transforms.diagnose import first_nonfinite
from ppl.transforms.enumerate import exact
from ppl.transforms.gradient import Derived
from ppl.transforms.inline import inlined
from ppl.transforms.occurrences import choice_equations
from ppl.transforms.reestimate import reestimated
from ppl.transforms.stage import Staged, split, stage
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

    def __init__(self, function: Callable[..., Any], layers: tuple[Using, ...] = ()) -> None:
        self.function, self.layers = function, layers
        functools.update_wrapper(self, function)  # pyright: ignore[reportArgumentType]

    def __repr__(self) -> str:
        return f"<expectation {getattr(self.function, '__qualname__', self.function)}>"

    def __hash__(self) -> int:
        return hash((Expectation, self.function, self.layers))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Expectation) and (self.function, self.layers) == (
            other.function,
            other.layers,
        )

    def using(self, estimators: Any) -> Expectation:
        """The same expectation with other gradient estimators, also where the program names one itself.

        It reaches every choice that the program makes: recorded ones, those that a guide proposes, under the
        guide's addresses, and those of inner expectations; a choice without an address is `"<draw>"`. Values
        for a fixed key stay the same, unless a choice starts or ceases to be summed over.

        Args:
            estimators: a mapping from address pattern, or from a predicate of (address, family), to
                estimator; a function of (address, family) that returns one, or `None` to keep what is there;
                or a policy, an object with a method `estimator_for`. See `ppl.choose.Using`. Later calls win
                over earlier.

        Raises:
            UnknownAddress: a pattern or predicate applies to no choice. Raised when the program is staged.
            EstimatorNotAdmitted: an estimator does not exist for a family; names the choice, the family and
                the estimators that do.

        Example:
            >>> import jax, ppl
            >>> from ppl.estimators import MeasureValued, Reinforce
            >>> @ppl.expectation
            ... def objective(mean):
            ...     x = ppl.normal(mean, 1.0) @ "x"
            ...     return jax.numpy.where(x > 0.0, 1.0, 0.0)
            >>> weak = objective.using({"x": MeasureValued()})
            >>> float(weak.grad(jax.random.key(0), 0.0, num_samples=100_000).round(1))
            0.4
            >>> scored = objective.using(lambda address, family: Reinforce() if family == "normal" else None)
            >>> float(scored.grad(jax.random.key(0), 0.0, num_samples=100_000).round(1))
            0.4
        """
        return Expectation(self.function, (*self.layers, Using(estimators)))

    def estimate(self, key: jax.Array, *args: Any, num_samples: int = 1) -> jax.Array:
        """An unbiased estimate of the expected value; exact in the choices that are enumerated jointly.

        The result refuses to be differentiated: its derivative is not that of the expected value.
        """
        return self._call(_Estimate, check_key(key), args, samples(num_samples))

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
        return self._call(_ValueAndGrad, check_key(key), args, argnums, samples(num_samples))

    def initial_state(self, *args: Any) -> dict[str, Any]:
        """The state of the estimators before the first step of training: what `learn` begins with.

        It is empty, unless a choice has a moving average as its baseline.
        """
        return initial(self.stage(*args).jaxpr)

    def learn(
        self, key: jax.Array, state: Mapping[str, Any], *args: Any, argnums: Any = 0, num_samples: int = 1,
        maximize: bool = True,
    ) -> Learning:  # fmt: skip
        """Value and gradient as by `value_and_grad`, and what trains the estimators beside: see `Learning`.

        For a training loop of your own, where baselines are averaged or learned, or control variates trained;
        `ppl.fit` calls it. `maximize` says whether the gradient is ascended, so that parameters of estimators
        go the right way too.

        Example:
            >>> import jax, ppl
            >>> from ppl.estimators import Reinforce
            >>> @ppl.expectation
            ... def reward(p):
            ...     win = ppl.flip(p).using(Reinforce(baseline="average")) @ "win"
            ...     return jax.numpy.where(win, 101.0, 100.0)
            >>> state = reward.initial_state(0.5)
            >>> for step in range(3):
            ...     key = jax.random.fold_in(jax.random.key(0), step)
            ...     value, slope, state = reward.learn(key, state, 0.5)
            >>> 100.0 <= float(state["win"][0] / state["win"][1]) <= 101.0
            True
        """
        number = samples(num_samples)
        return self._call(_Learn, check_key(key), dict(state), args, argnums, number, bool(maximize))

    def jvp(
        self, key: jax.Array, primals: Sequence[Any], tangents: Sequence[Any], *, num_samples: int = 1
    ) -> tuple[jax.Array, jax.Array]:
        """Unbiased estimates of the expected value and of its derivative along `tangents`.

        Forward mode; loops of unknown length are allowed. `primals` and `tangents` are sequences, one
        entry for each argument, as for `jax.jvp`.
        """
        return self._call(_Jvp, check_key(key), tuple(primals), tuple(tangents), samples(num_samples))

    def surrogate(self, key: jax.Array, *args: Any, num_samples: int = 1) -> jax.Array:
        """The differentiable function itself.

        For a fixed key it is an ordinary JAX function of `args`. Over keys its expected value is that of
        the program, and so is each of its derivatives, of any order (`jax.grad`, `jax.hessian`, ...).

        Raises:
            DiscontinuousReparameterization: a value that moves with any of the arguments reaches a jump.
        """
        check_key(key)
        staged = self.stage(*args)
        check_continuity(staged.jaxpr, [is_float(x) for x in staged.arrays], reverse=False, supports=ends)
        return average(staged, key, samples(num_samples), order=2)

    def exact(self, *args: Any) -> jax.Array:
        """The expected value itself, by summing over every choice; differentiable.

        Raises:
            UnsupportedProgram: a choice has no finite support, or there are too many combinations.
        """
        return self._call(_Exact, args)

    def first_nonfinite(self, key: jax.Array, *args: Any, num_samples: int = 1) -> str | None:
        """The first draw or log density that is not finite in the runs of `key`, in words.

        If all are finite, the first whose derivative in the first argument is not; then the first log density
        that is not finite at a value that is summed over, or tried by an estimator.
        """
        staged = self.stage(*args)
        moving = moving_arrays(self, args, 0)[1] if args else [False] * len(staged.arrays)
        return first_nonfinite(staged.jaxpr, staged.arrays, moving, check_key(key), samples(num_samples))

    def _call(self, method: type[_Method], *arguments: Any) -> Any:
        return compiled(method(self.function), self.layers, *arguments)

    def stage(self, *args: Any) -> Staged:
        """The program as a jaxpr in which every random choice is one equation, its estimators among them."""
        parts = split((args, {}), floats=True)
        staged = self._check_scalar(inlined(stage(self.function, parts)))
        for layer in self.layers:
            layer.check([equation.params["site"] for equation in choice_equations(staged.jaxpr)])
        return reestimated(staged, layered(self.layers)) if self.layers else staged

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
        staged = wrapped.stage(*args)
        jaxpr, consts = internals.without_consts(staged.jaxpr)
        operands = [jnp.asarray(x) for x in (*consts, *staged.arrays)]
        mapped = ((),) * len(operands)
        return expect_p.bind(*operands, jaxpr=jaxpr, lanes=(), mapped=mapped, source=user_line())[0]

    return functools.update_wrapper(bound, function)


_VALUE = (
    "`estimate` gives a value; its derivative is not that of the expected value. Use `grad` or "
    "`value_and_grad`, or differentiate `surrogate`."
)


class _Method:
    """A method of an expectation as a hashable function, so that its compilation is found again.

    The layers of estimators are an argument, because they may hold arrays.
    """

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function

    def __hash__(self) -> int:
        return hash((type(self), self.function))

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.function == other.function  # type: ignore[attr-defined]

    def __call__(self, layers: tuple[Using, ...], *arguments: Any) -> Any:
        return self.run(Expectation(self.function, layers), *arguments)

    def run(self, of: Expectation, *arguments: Any) -> Any:
        raise NotImplementedError


class _Estimate(_Method):
    def run(self, of: Expectation, key: jax.Array, args: tuple[Any, ...], num_samples: int) -> jax.Array:
        return average(fixed(of.stage(*args), _VALUE), key, num_samples, order=0)


class _Exact(_Method):
    def run(self, of: Expectation, args: tuple[Any, ...]) -> jax.Array:
        staged = of.stage(*args)
        return exact(staged.jaxpr, staged.arrays)


class _Jvp(_Method):
    def run(self, of: Expectation, key: jax.Array, primals: Any, tangents: Any, num_samples: int) -> Any:
        parts = split((primals, {}), floats=True)
        moving = [is_float(x) for x in parts.arrays]
        directions = split((tangents, {}), floats=True).arrays
        if len(directions) != sum(moving):
            directions = [t for t, move in zip(directions, moving, strict=True) if move]
        function, floats = surrogate_of(of.stage(*primals), moving, key, num_samples, reverse=False)
        directions = [jnp.asarray(t, x.dtype) for t, x in zip(directions, floats, strict=True)]
        return jax.jvp(function, (floats,), (directions,))


class _ValueAndGrad(_Method):
    def run(self, of: Expectation, key: Any, args: tuple[Any, ...], argnums: Any, num_samples: int) -> Any:
        parts, moving = moving_arrays(of, args, argnums)
        function, floats = surrogate_of(of.stage(*args), moving, key, num_samples, reverse=True)
        value, slopes = jax.value_and_grad(function)(floats)
        return value, picked(parts, moving, slopes, argnums)


class _Learn(_Method):
    def run(
        self, of: Expectation, key: jax.Array, state: Any, args: tuple[Any, ...], argnums: Any,
        num_samples: int, maximize: bool,
    ) -> Learning:  # fmt: skip
        parts, moving = moving_arrays(of, args, argnums)
        staged = of.stage(*args)
        if not is_learning(staged.jaxpr):
            value, slope = _ValueAndGrad(self.function).run(of, key, args, argnums, num_samples)
            return Learning(value, slope, {})
        check_continuity(staged.jaxpr, moving, reverse=True, supports=ends)
        aside = through_estimators_only(staged.jaxpr)
        kinds = [(move and not off, move and off) for move, off in zip(moving, aside, strict=True)]
        averages = by_name(staged.jaxpr, state)

        def surrogate(main: list[Any], others: list[Any]) -> tuple[Any, Derived]:
            remaining = iter(main), iter(others)
            arrays = [
                next(remaining[0]) if in_main else next(remaining[1]) if in_others else x
                for (in_main, in_others), x in zip(kinds, staged.arrays, strict=True)
            ]
            found = derived(staged._replace(arrays=arrays), key, num_samples, 1, averages, True)
            return found.value, found

        main, others = ([x for kind, x in zip(kinds, staged.arrays, strict=True) if kind[i]] for i in (0, 1))

        def loss(others: list[Any]) -> tuple[Any, Any]:
            """Regression, and half the squared norm of the gradient."""
            (value, found), slope = jax.value_and_grad(surrogate, has_aux=True)(main, others)
            total = found.regression
            if has_control(staged.jaxpr):
                total = total + sum(jnp.sum(x**2) for x in slope) / 2
            return total, (value, slope, found.averages)

        lowers, (value, slope, means) = jax.grad(loss, has_aux=True)(others)
        sign = -1.0 if maximize else 1.0
        remaining = iter(slope), iter([sign * x for x in lowers])
        merged = [next(remaining[0] if in_main else remaining[1]) for in_main, off in kinds if in_main or off]
        return Learning(value, picked(parts, moving, merged, argnums), updated(staged.jaxpr, means, state))
