"""What each primitive without control flow makes of what is known of its operands.

The tables of discontinuous primitives and the transfer function of `ppl.transforms.continuity`, where
the theory is. A new primitive of JAX with a jump is a row in `STEPS` or `BROKEN`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ppl.errors import UnsupportedProgram
from ppl.source import Function, equation_line, library_function
from ppl.transforms import intervals
from ppl.transforms import jax_internals as internals
from ppl.transforms.moving import Jump, Value, above, atom, chosen, forget, union
from ppl.transforms.vouched import DENSITY_CODE, library_vouches, support_check, user_vouches


def words(text: str) -> frozenset[str]:
    """The set of the words of a text."""
    return frozenset(text.split())


COMPARISONS = {"gt": ">", "lt": "<", "ge": ">=", "le": "<=", "eq": "==", "ne": "!="}
# Locally constant: between its jumps the result does not move at all.
STEPS: dict[str, str] = {
    **{name: f"a comparison `{sign}`" for name, sign in COMPARISONS.items()},
    **{name: f"a comparison `{name}`" for name in ("eq_to", "le_to", "lt_to")},
    **{name: f"`{name}`" for name in ("sign", "floor", "ceil", "round", "argmax", "argmin")},
    "is_finite": "a test `isfinite`",
    "bitcast_convert_type": "reading the bits of a number",
    "convert_element_type": "a cast to an integer or boolean",
}
# With jumps, and moving between them.
BROKEN: dict[str, str] = {
    "rem": "a remainder `%`",
    "atan2": "`arctan2`, which jumps by 2 pi across the negative axis",
    "nextafter": "`nextafter`",
    **{
        name: f"`{name}`, which cannot be looked into"
        for name in ("pure_callback", "io_callback", "ffi_call")
    },
}
# The factors of a decomposition jump where a pivot or a sign is chosen anew; the numbers that
# belong to it (eigenvalues, singular values) do not.
FACTORS = words("lu qr geqrf eigh eig svd schur hessenberg tridiagonal")
RANKINGS = words("sort top_k approx_top_k")
# What leaves minus infinity infinite, or only moves it elsewhere. Anything else may make it a number.
UNBOUNDED = words(
    "add add_any sub mul neg reduce_sum cumsum dot_general concatenate stack unstack split pad tile scatter "
    "scatter-add dynamic_update_slice select_n sort min reduce_min psum"
)
RANGES = {"exp": (0.0, None), "exp2": (0.0, None), "logistic": (0.0, 1.0), "tanh": (-1.0, 1.0)}
# Positive wherever all their operands are.
POSITIVE = words(
    "add mul div integer_pow square sqrt rsqrt cbrt pow reduce_sum reduce_prod cumsum cumprod max min"
)
# Entries of the first operand, in another arrangement; in `SHUFFLES` perhaps with the same shape.
SHUFFLES = words("transpose rev gather dynamic_slice slice split unstack reduce_max reduce_min")
LAYOUT = SHUFFLES | words(
    "reshape broadcast_in_dim squeeze expand_dims copy copy_p convert_element_type device_put stop_gradient "
    "name optimization_barrier sharding_constraint log_density_of one_term undifferentiated "
    "unmoved differentiated_once held_constant"
)
# Where a nested jaxpr only says how to combine two entries, or how to solve a linear system.
SMOOTH_WITH_JAXPR = words(
    "custom_linear_solve scatter scatter-add scatter-sub scatter-mul scatter-max scatter-min"
)


def is_float(variable: Any) -> bool:
    """Whether a variable of a jaxpr is real or complex, so that it can move smoothly."""
    return jnp.issubdtype(variable.aval.dtype, jnp.inexact)


def is_number(dtype: Any) -> bool:
    """Whether a dtype is that of numbers or truth values, and not of keys."""
    return not jnp.issubdtype(dtype, jax.dtypes.extended)


def is_layout(equation: Any) -> bool:
    """Whether an equation only rearranges its first operand."""
    return equation.primitive.name in LAYOUT and bool(equation.invars)


def jump_words(equation: Any) -> tuple[str | None, bool]:
    """How to call the discontinuity of an equation's primitive (None without one); locally constant?"""
    name = equation.primitive.name
    if name in ("convert_element_type", "bitcast_convert_type"):
        rounds = is_float(equation.invars[0]) and not is_float(equation.outvars[0])
        return (STEPS[name], True) if rounds else (None, False)
    if name in STEPS:
        return STEPS[name], True
    if name not in BROKEN and name not in SMOOTH_WITH_JAXPR and internals.nested(equation):
        return f"`{name}`, which cannot be looked into", False
    return BROKEN.get(name), False


def is_constant_test(equation: Any, values: Sequence[Value]) -> bool:
    """Whether the answer of a test is the same for almost every draw.

    That is so for `isnan` (written `x != x`), for tests for infinity except those of a log density with
    an edge, and for a comparison with a bound of the open interval that the value lies in.
    """
    name = equation.primitive.name
    if name == "is_finite":
        return values[0].edge is None
    if name not in COMPARISONS:
        return False
    first, second = values
    if name in ("eq", "ne") and equation.invars[0] is equation.invars[1]:
        return True
    if any(v.origin in (math.inf, -math.inf) for v in values):
        return first.edge is None and second.edge is None
    return above(first, second) or above(second, first)


def keeps_numbers(equation: Any) -> bool:
    """Whether the entries of the first operand are the same numbers in the result, however they are arranged.

    A narrower dtype merges neighbors, so that a comparison no longer tells them apart.
    """
    before, after = (variable.aval.dtype for variable in (equation.invars[0], equation.outvars[0]))
    # Keys of JAX are of dtypes that promote to nothing.
    return before == after or (is_number(before) and jnp.promote_types(before, after) == after)


def is_accounted(equation: Any, values: Sequence[Value]) -> bool:
    """Whether a jump is a comparison of a choice's own value with a constant at which it is corrected."""
    found = compared(equation, values)
    if found is None:
        return False
    own, constant = found
    return any(np.asarray(constant).astype(c.dtype) == c for c in own)


def compared(equation: Any, values: Sequence[Value]) -> tuple[tuple[Any, ...], float] | None:
    """In a comparison of a choice's own value with a number: where it is corrected, and the number."""
    if equation.primitive.name not in COMPARISONS:
        return None
    for one, other in (values, values[::-1]):
        if one.own is not None and isinstance(other.origin, float) and not other.crosses:
            return one.own, other.origin
    return None


def facts(equation: Any, values: Sequence[Value], result: Value) -> Value:
    """The result with what is known of its range."""
    name = equation.primitive.name
    if is_layout(equation):
        source, before, after = values[0], equation.invars[0].aval.shape, equation.outvars[0].aval.shape
        # Rearranged entries no longer stand beside those of a bound that is an array.
        aligned = name not in SHUFFLES and (before == after or math.prod(before) == 1)
        kept = source if aligned else forget(source)
        drawn = kept.drawn if aligned and before == after else result.drawn
        own = source.own if keeps_numbers(equation) else None
        return replace(result, origin=kept.origin, bounds=kept.bounds, drawn=drawn, own=own)
    if name in RANGES:
        return replace(result, bounds=RANGES[name])
    if name in intervals.ARITHMETIC:
        origin, bounds = intervals.arithmetic(name, values, equation.outvars[0].aval.dtype)
        if origin is not None:
            return replace(result, origin=origin)
        if bounds != (None, None):
            return replace(result, bounds=bounds)
    if name in POSITIVE and all(map(_is_positive, values)):
        return replace(result, bounds=(0.0, None))
    return result


def _is_positive(value: Value) -> bool:
    lower = value.bounds[0]
    return (isinstance(lower, float) and lower >= 0) or (isinstance(value.origin, float) and value.origin > 0)


@dataclass(frozen=True)
class Context:
    """Where the walk stands.

    Attributes:
        vouched: inside library code known to be continuous, and whether in a log density.
        promised: inside `continuous`.
        line: the user's line of the innermost enclosing equation.
        inside: the library's function that the equations belong to, if they do.
    """

    vouched: str = ""
    promised: bool = False
    line: str = "<unknown line>"
    inside: Function | None = None

    def at(self, equation: Any) -> Context:
        """The same, for what an equation holds."""
        line = equation_line(equation, self.inside)
        return replace(
            self,
            vouched=library_vouches(equation, inside=self.inside, inherited=self.vouched),
            promised=self.promised or user_vouches(equation),
            line=self.line if line.startswith("<") else line,
        )

    def entering(self, body: Any) -> Context:
        """The same, for the equations of a nested jaxpr."""
        return replace(self, inside=library_function(body))


def plain(equation: Any, values: list[Value], context: Context) -> list[Value]:
    """The results of an equation without control flow."""
    name, outputs = equation.primitive.name, equation.outvars
    whole = union(values)
    if name == "select_n":
        edge = context.line if context.vouched == DENSITY_CODE and not context.promised else ""
        return [chosen(values[0], values[1:], edge)]
    if name in RANKINGS:
        return _ranked(equation, values, context)
    if name in FACTORS:
        order = len(equation.invars[0].aval.shape)
        factor = f"the factors of `{name}`, whose signs and pivots jump,"
        broken = crossing(whole, factor, context)
        smooth = [is_float(v) and len(v.aval.shape) < order for v in outputs]
        return [whole if s else broken for s in smooth]
    if name == "stop_gradient":
        whole = replace(whole, tangent=False)
    if name == "held_constant":
        whole = held(whole, context)
    if whole.edge is not None and not _keeps_infinity(equation, values):
        whole = fall(whole, context)
    jump, steps = jump_words(equation)
    if name == "atan2" and _is_positive(values[1]):
        jump = None  # away from the branch cut
    if jump is None:
        whole = replace(whole, drawn=_within_check(equation, values, context))
        known = len(outputs) == 1 or name in SHUFFLES
        return [facts(equation, values, whole) if known else whole for _ in outputs]
    if steps and (
        is_constant_test(equation, values) or _within_check(equation, values, context) or not whole.crosses
    ):
        return [atom(values)]
    if is_accounted(equation, values):
        return [atom(values)]
    found = compared(equation, values)
    return [crossing(whole, jump, context, found and found[1]) for _ in outputs]


def _keeps_infinity(equation: Any, values: Sequence[Value]) -> bool:
    name = equation.primitive.name
    return name in UNBOUNDED | LAYOUT - {"reduce_max"} or (name == "div" and values[1].edge is None)


def held(value: Value, context: Context) -> Value:
    """The value as a constant.

    Raises:
        UnsupportedProgram: a pathwise derivative of a choice runs through it. A score of that choice would
            follow the value, so that it is no constant.
    """
    if value.tangent and value.noise:
        choices = ", ".join(sorted({site.where for site in value.noise}))
        raise UnsupportedProgram(
            f"a wake phase ({context.line}) holds fixed what its draws depend on, and this moves with the "
            f"parameters through {choices}, made before in the same objective: a pathwise derivative of it "
            "would stop there. Give it an estimator that does not differentiate through its value, "
            "`.using(ppl.estimators.Reinforce())`, and combine it with parameters inside the model; or make "
            "it a choice of the model."
        )
    return replace(value, moves=False, tangent=False)


def fall(value: Value, context: Context) -> Value:
    """The value where minus infinity becomes a number: the edge is a jump."""
    if value.edge is None or value.jump is not None or context.promised:
        return replace(value, edge=None)
    return replace(value, edge=None, jump=value.edge._replace(line=context.line))


def _within_check(equation: Any, values: Sequence[Value], context: Context) -> str:
    """The class of the support whose membership test an equation is part of, of draws from it."""
    drawn = {value.drawn for value in values if value.crosses}
    return drawn.pop() if len(drawn) == 1 and drawn == {support_check(equation, context.inside)} else ""


def crossing(value: Value, words: str, context: Context, constant: float | None = None) -> Value:
    """The value after an operation with a jump, perhaps a comparison of a choice itself with a constant."""
    if not value.crosses or value.jump is not None or context.vouched or context.promised:
        return value
    return replace(value, jump=Jump(words, context.line, tuple(value.noise), constant))


def _ranked(equation: Any, values: list[Value], context: Context) -> list[Value]:
    """Of a sort: the values move continuously; which comes where, and what goes along with it, jumps."""
    keys = equation.params.get("num_keys", 1)
    order = union(values[:keys])
    results = []
    for position, variable in enumerate(equation.outvars):
        value = union([order, values[position]]) if position < len(values) else order
        smooth = position == 0 and keys == 1 and is_float(variable)
        results.append(
            value if smooth else crossing(value, "the order of a sort (`argsort`, `top_k`)", context)
        )
    return results
