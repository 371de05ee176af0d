r"""Whether the derivatives of a staged program are unbiased, decided before anything runs.

**The bias.** Let a value :math:`x_\theta` move with the parameters while its noise is held fixed,
as a reparameterised choice does. Its pathwise derivative is right for what comes after where

.. math:: \nabla_\theta\, E[f(x_\theta)] = E[\nabla_\theta f(x_\theta)],

which holds for continuous, almost everywhere differentiable :math:`f` under the usual domination,
and fails by a surface term where :math:`f` jumps at a place that :math:`x_\theta` crosses:
:math:`\nabla_\theta P(x_\theta > 0) \ne 0`, yet almost every draw of the indicator has derivative
zero. What counts is that the *value* depends on the parameters; `stop_gradient` does not help.

**The analysis** is an abstract interpretation of the jaxpr. Of each variable it keeps whether it
*moves*, the *continuous choices* it depends on, and the first *jump* that it passed through.

- A pathwise choice moves if its parameters do. The value of a choice under any other estimator does
  not: a score, weights or a sum over values account for its law, so jumps of it alone are right.
- A discrete choice is an atom. It adds no noise, nor does it carry the noise of its parameters,
  which act through its probabilities and so smoothly. A step function of values that do not both
  move and vary is an atom too: what jumps at isolated parameters is differentiable almost everywhere.
- A primitive with a jump makes one where its operands, together, move *and* vary: `x + theta > 0`
  too where only `theta` moves. A jump stays with everything that depends on it: through selections,
  branches, indices, loops, and the parameters of later choices.
- The program is refused if a jump reaches one of its outputs.
- A *biased* estimator of a discrete choice is pathwise: its value moves, and is taken as a continuous choice.
  That the value itself may jump (`StraightThrough`) is the bias that the user named; any jump after it is
  refused as ever, as the derivative there would not be biased but nothing. Nothing is taken back for other
  choices.
- A function that an estimator differentiates along a relaxed choice (the control of `Relax`) may not jump.

Comparisons inside library code known to be continuous, or inside `continuous`, make no jump
(`ppl.transforms.vouched`), nor do tests with the same answer for almost every draw: `isnan`,
`isfinite`, and comparisons with an end of the support that a value was drawn from.

**Declared constants.** Where an estimator runs the program on both sides of a constant, a comparison
with it of the choice's own value, entries rearranged at most, makes no jump: whatever follows jumps
only where an instance of the choice equals the constant. Loops forget whose value they carry.

**Log densities with an edge** (uniform, exponential, ...) are continuous in what an expectation can
see until they are exponentiated; :math:`\exp(-\infty) = 0` is a jump of finite height. Minus infinity
selected by a predicate that crosses is therefore remembered, and becomes a jump in whatever may turn
it into a number: `exp`, `logsumexp`, `maximum`, a test for infinity, a parameter of a choice. A draw
scored by a density with the support that it was drawn from never leaves that support, so importance
weights of ordinary guides pass.

**What is not seen.** Poles (`1 / x`, `x / abs(x)`, `tan`), whose expectations mostly do not exist;
saturated floating point; primitives of other packages that have jumps of their own; and that a
product of jumps may cancel. A value drawn by `jax.random` from a key that the program is given is a
constant of the program, not noise. `x == c` counts as a jump although a continuous `x` almost never equals
`c`, because `relu(x) == 0` is one. Everything that moves in one array counts as moving.

The condition is Theorem 1 of Lee, Yu, Yang, *Reparameterization Gradient for Non-differentiable
Models* (2018), without its boundary term but at declared constants; discrete and score-function choices are
as in Lew, Huot, Staton, Mansinghka, *ADEV: Sound Automatic Differentiation of Expected Values of
Probabilistic Programs* (2023), which keeps the two apart by types.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax.core import Tracer

from ppl.errors import DiscontinuousReparameterization, EstimatorNotAdmitted, UnsupportedProgram
from ppl.inner import expect_p
from ppl.refusal import undifferentiated_p
from ppl.site import Site, sample_p
from ppl.transforms import jax_internals as internals
from ppl.transforms import jumps
from ppl.transforms.jumps import Context
from ppl.transforms.moving import Jump, Value, atom, chosen, constant, forget, union


class Supports(Protocol):
    """What is asked about the supports of families, which no transformation knows."""

    def moving_support(self, distribution: Any) -> Sequence[str]:
        """The names of the parameters of a distribution that are ends of its support."""
        ...

    def transformed(self, distribution: Any) -> tuple[Any, Sequence[Any]] | None:
        """The distribution that is transformed, and the transforms in their order; `None` for others."""
        ...


class _Unknown:
    def moving_support(self, distribution: Any) -> Sequence[str]:
        return ()

    def transformed(self, distribution: Any) -> tuple[Any, Sequence[Any]] | None:
        return None


def check_continuity(
    jaxpr: Any,
    differentiated: Sequence[bool],
    *,
    reverse: bool,
    supports: Supports | None = None,
) -> None:
    """Refuse a staged program of which a derivative would be silently biased, or could not be taken.

    Args:
        jaxpr: the staged program; its choices are `sample` equations.
        differentiated: for each input, whether derivatives are taken with respect to it.
        reverse: whether derivatives are taken in reverse mode.
        supports: knows the supports of families.

    Raises:
        DiscontinuousReparameterization: a value that moves with the parameters and depends on a
            continuous choice crosses a jump on its way to an output.
        EstimatorNotAdmitted: a discrete choice is declared pathwise.
        UnsupportedProgram: the support of a choice that is not pathwise moves; or, in reverse mode,
            a derivative has to pass through a `while_loop`.

    Example:
        >>> import jax
        >>> from ppl.transforms.continuity import check_continuity
        >>> check_continuity(jax.make_jaxpr(lambda x: x > 0)(1.0), [True], reverse=True)  # no noise, no bias
    """
    floats = [jumps.is_float(variable) for variable in jaxpr.invars]
    moving = [bool(d) and f for d, f in zip(differentiated, floats, strict=True)]
    walk = _Walk(Context(), reverse, supports or _Unknown())
    for value in _through(jaxpr, [Value(moves=m, tangent=m) for m in moving], walk):
        if value.jump is not None:
            raise DiscontinuousReparameterization(_message(value.jump))


def _message(jump: Jump) -> str:
    sites = sorted({site.where for site in jump.sites})
    choices = ("the choice " if len(sites) == 1 else "the choices ") + ", ".join(sites)
    declared = ""
    if jump.constant is not None:
        declared = (
            f" declare the constant, `.using(ppl.estimators.BoundaryCorrected(at=({jump.constant:.9g},)))`, "
            "which accounts for the jump where the value itself is compared with it;"
        )
    return (
        f"a value that moves with the parameters, and depends on {choices}, reaches a jump: {jump.what} at "
        f"{jump.line}. As the parameters move, the value crosses the jump; the pathwise derivative "
        "of almost every draw does not see it, so the gradient would be biased. Ways out:"
        f"{declared} give the choice a "
        "gradient estimator that does not differentiate through its value and keep the parameters out of the "
        "jump, `.using(ppl.estimators.Reinforce())` or `MeasureValued()`; make the jump smooth; or, if the "
        "function that compares is continuous in fact, wrap it in `ppl.continuous(function)`."
    )


@dataclass(frozen=True)
class _Walk:
    """What is asked of the walk, and where it stands."""

    context: Context
    reverse: bool
    supports: Supports
    looping: bool = False

    @property
    def line(self) -> str:
        """The user's line."""
        return self.context.line


def _evaluate(body: Any, arguments: Sequence[Value], walk: _Walk) -> list[Value]:
    """A nested jaxpr."""
    return _through(body, arguments, replace(walk, context=walk.context.entering(body)))


def _through(jaxpr: Any, arguments: Sequence[Value], walk: _Walk) -> list[Value]:
    environment: dict[Any, Value] = dict(zip(jaxpr.constvars, map(constant, jaxpr.consts), strict=True))
    environment.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> Value:
        return constant(atom.val) if internals.is_literal(atom) else environment[atom]

    for equation in jaxpr.eqns:
        here = replace(walk, context=walk.context.at(equation))
        results = _equation(equation, [read(v) for v in equation.invars], here)
        for variable, value in zip(equation.outvars, results, strict=True):
            tangent = value.tangent and jumps.is_float(variable)
            environment[variable] = value if tangent == value.tangent else replace(value, tangent=tangent)
    return [read(v) for v in jaxpr.outvars]


def _equation(equation: Any, values: list[Value], walk: _Walk) -> list[Value]:
    primitive = equation.primitive
    if primitive is sample_p:
        return [_choice(equation, values, walk)]
    if primitive is undifferentiated_p and values[0].tangent:
        # JAX would refuse it too, when it comes to it; until then a jump might be named instead.
        raise UnsupportedProgram(equation.params["why"])
    if primitive in _CONTROL:
        return _CONTROL[primitive](equation, values, walk)
    body = _called(equation)
    if body is not None:
        if primitive in internals.CUSTOM_DERIVATIVES:
            # Its own derivative rule takes the place of the body's.
            walk = replace(walk, reverse=False)
        return _evaluate(body, values, walk)
    return jumps.plain(equation, values, walk.context)


def _called(equation: Any) -> Any:
    """The jaxpr that an equation evaluates on its operands, if it is a call."""
    if equation.primitive is expect_p:
        return equation.params["jaxpr"]  # in each lane
    if equation.primitive in internals.CALLS:
        return equation.params[internals.CALLS[equation.primitive]]
    inner = internals.nested(equation)
    if len(inner) != 1 or equation.primitive.name in jumps.SMOOTH_WITH_JAXPR:
        return None
    body = inner[0]

    def kinds(variables: Sequence[Any]) -> list[Any]:
        return [(v.aval.shape, v.aval.dtype) for v in variables]

    alike = kinds(body.invars) == kinds(equation.invars) and kinds(body.outvars) == kinds(equation.outvars)
    return body if alike else None


# --- choices --------------------------------------------------------------------------------------


def _choice(equation: Any, values: list[Value], walk: _Walk) -> Value:
    site: Site = equation.params["site"]
    leaves, mask = site.split(values)
    # Abstract values in place of the arrays: attributes then say which operand is which.
    distribution, estimator = jax.tree.unflatten(site.tree, leaves)
    parameters = union([leaf for leaf in jax.tree.leaves(distribution) if isinstance(leaf, Value)])
    # Parameters turn into probabilities, so minus infinity among them is a number after all.
    whole = jumps.fall(union([parameters] if mask is None else [parameters, mask]), walk.context)
    shapes = site.split([jax.ShapeDtypeStruct(v.aval.shape, v.aval.dtype) for v in equation.invars])[0]
    shaped = jax.tree.unflatten(site.tree, shapes)[0]
    integral = not jnp.issubdtype(site.dtype, jnp.inexact)
    # A finite support is discrete although its values be floats, unless a pathwise estimator relaxes them.
    discrete = integral or (site.support is not None and not estimator.pathwise)
    if estimator.pathwise and discrete:
        raise EstimatorNotAdmitted(
            f"the choice {site.where} is discrete: its value cannot move with its parameters, and a pathwise "
            "derivative would silently be zero. Use Enumerate(), MeasureValued() or Reinforce() instead."
        )
    if not estimator.pathwise:
        if walk.reverse and walk.looping and parameters.tangent:
            raise _unbounded(walk, f"makes the choice {site.where}, whose score moves with the parameters")
        _check_support(site, distribution, walk.supports.moving_support(shaped))
        _check_controls(site, estimator, site.one_lane([v.aval for v in equation.invars]), walk)
    if discrete:
        return atom([whole])
    lane = site.one_lane([v.aval for v in equation.invars])[0]
    (lower, upper), drawn = _bounds(distribution, lane, walk), _support(distribution)[2]
    moves = estimator.pathwise and parameters.moves
    return replace(
        whole, moves=moves, tangent=moves and parameters.tangent, noise=whole.noise | {site},
        bounds=(lower, upper), drawn=drawn, own=tuple(np.asarray(c, site.dtype) for c in estimator.corrects),
    )  # fmt: skip


def _check_support(site: Site, distribution: Any, ends: Sequence[str]) -> None:
    for name in ends:
        leaves = jax.tree.leaves(getattr(distribution, name))
        if any(isinstance(leaf, Value) and leaf.moves for leaf in leaves):
            raise UnsupportedProgram(
                f"the parameter {name!r} of the choice {site.where} sets an end of its support and moves "
                "with the parameters of the program. Only a pathwise derivative sees an end move; a score "
                "or a measure-valued derivative would be biased. Use `.using(Reparam())`, or draw from a "
                "fixed support and scale the draw."
            )


def _check_controls(site: Site, estimator: Any, shaped: tuple[Any, Any], walk: _Walk) -> None:
    """Refuse an estimator that differentiates a function of the user's that jumps."""
    differentiated = getattr(shaped[1], "differentiates", lambda distribution: ())(shaped[0])
    for function, argument in differentiated:
        jaxpr = jax.make_jaxpr(lambda function, argument: function(argument))(function, argument)
        arrays = len(jax.tree.leaves(function))
        known = union([leaf for leaf in jax.tree.leaves(estimator) if isinstance(leaf, Value)])
        noise = Value(moves=True, tangent=True, noise=frozenset({site}))
        for value in _evaluate(jaxpr, [*(forget(known) for _ in range(arrays)), noise], walk):
            if value.jump is not None or value.edge is not None:
                jump = value.jump or value.edge
                assert jump is not None
                raise DiscontinuousReparameterization(
                    f"{type(estimator).__name__} of the choice {site.where} differentiates a function of the "
                    f"relaxed choice that jumps: {jump.what} at {jump.line}. Its derivative would be biased, "
                    "and so the gradient. Make the function smooth: it need not be the rest of the program, "
                    "only near it. If it is continuous in fact, wrap it in `ppl.continuous(function)`."
                )


def _support(distribution: Any) -> tuple[Any, Any, str]:
    """The open interval that almost every draw lies in, and the class of a support without parameters."""
    try:
        support = distribution.support
    except Exception:  # a distribution that computes with its arrays to know its support
        return None, None, ""
    while hasattr(support, "base_constraint"):
        support = support.base_constraint

    def end(name: str) -> Any:
        bound = getattr(support, name, None)
        if isinstance(bound, Value):
            return bound.origin
        if bound is None or isinstance(bound, Tracer) or np.size(bound) != 1:
            return None
        return float(np.reshape(bound, ()))

    # A support with parameters of its own is not the same for all distributions that have its class.
    return end("lower_bound"), end("upper_bound"), "" if vars(support) else type(support).__name__


def _bounds(distribution: Any, lane: Any, walk: _Walk) -> tuple[Any, Any]:
    """The open interval that almost every draw lies in; of what is transformed, through its transforms."""
    found = _support(distribution)[:2]
    parts, like_parts = walk.supports.transformed(distribution), walk.supports.transformed(lane)
    if found != (None, None) or parts is None or like_parts is None:
        return found
    (base, steps), (like_base, like_steps) = parts, like_parts
    value = Value(bounds=_bounds(base, like_base, walk))
    x = jax.ShapeDtypeStruct(like_base.shape(), jnp.result_type(float))
    for transform, like in zip(steps, like_steps, strict=True):
        jaxpr, x = jax.make_jaxpr(lambda t, x: t(x), return_shape=True)(like, x)
        known = [leaf if isinstance(leaf, Value) else constant(leaf) for leaf in jax.tree.leaves(transform)]
        (value,) = _evaluate(jaxpr, [*known, value], walk)
    return value.bounds


# --- control flow ---------------------------------------------------------------------------------


def _conditional(equation: Any, values: list[Value], walk: _Walk) -> list[Value]:
    index, *operands = values
    branches = [_evaluate(branch, operands, walk) for branch in equation.params["branches"]]
    return [chosen(index, cases) for cases in zip(*branches, strict=True)]


def _settle(carry: list[Value], step: Callable[[list[Value]], list[Value]]) -> list[Value]:
    """The least values that hold before every step of a loop."""
    carry = [forget(value, bounds=True) for value in carry]
    while True:
        merged = [union(pair) for pair in zip(carry, step(carry), strict=True)]
        if [v.known for v in merged] == [v.known for v in carry]:
            return carry
        carry = merged


def _scan(equation: Any, values: list[Value], walk: _Walk) -> list[Value]:
    scan = internals.scan_parts(equation.params, values)
    xs = [forget(value) for value in scan.xs]

    def step(carry: list[Value]) -> list[Value]:
        return _evaluate(scan.body, [*scan.consts, *carry, *xs], walk)

    carry = _settle(scan.carry, lambda carry: internals.scan_outputs(equation.params, step(carry))[0])
    carried, stacked = internals.scan_outputs(equation.params, step(carry))
    final = [union(pair) for pair in zip(carry, carried, strict=True)]
    return [*final, *(forget(value) for value in stacked)]


def _while(equation: Any, values: list[Value], walk: _Walk) -> list[Value]:
    walk = replace(walk, looping=True)
    loop = internals.while_parts(equation.params, values)

    def step(carry: list[Value]) -> list[Value]:
        (again,) = _evaluate(loop.condition, [*loop.condition_consts, *carry], walk)
        after = _evaluate(loop.body, [*loop.body_consts, *carry], walk)
        return [chosen(again, [old, new]) for old, new in zip(carry, after, strict=True)]

    carry = _settle(loop.carry, step)
    floats = [jumps.is_float(variable) for variable in equation.outvars]
    if walk.reverse and any(v.tangent and f for v, f in zip(carry, floats, strict=True)):
        raise _unbounded(walk, "carries a value that moves with the parameters")
    return carry


def _unbounded(walk: _Walk, what: str) -> UnsupportedProgram:
    return UnsupportedProgram(
        f"the `while_loop` at {walk.line} {what}, and reverse-mode differentiation would have to run it "
        "backwards without knowing how many steps it took. Use jax.lax.scan, or jax.lax.fori_loop with "
        "static bounds; or take the derivative in forward mode with `Expectation.jvp`; or stop the gradient "
        "of what goes into the loop."
    )


_CONTROL = {internals.COND: _conditional, internals.SCAN: _scan, internals.WHILE: _while}
