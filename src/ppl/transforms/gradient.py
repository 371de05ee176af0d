r"""From an expectation program to its surrogate: the derivation of unbiased gradient estimators.

Write a run of the program as its choices `x_1, ..., x_n`, drawn from `q_i = stop_gradient(p_i)`, and
its result `r(x; theta)`. The identity behind everything here is the telescope

    prod_i p_i - prod_i q_i = sum_i (prod_{k<i} p_k) (p_i - q_i) (prod_{k>i} q_k),

which holds for every order of the factors and, as a function of `theta`, to every order of derivative.
So with F(x) the result of a run times the magic boxes `p_k / q_k` of its score-function choices,

    S = F(x) + sum_i  m_{<i}  sum_u (p_i(u) - q_i(u)) F(x with x_i = u),

where i runs over the instances that are enumerated or measure-valued, `m_{<i}` is the magic box of those
that come before, and in `x with x_i = u` everything downstream is drawn again from the same noise. A
measure-valued choice gives the same sum with fewer terms. In the base run each such choice records its
weights `p_i(u) - q_i(u)`, which are zero in value; the run with one instance replaced is the program run
again, vectorized over all instances and values of a choice, or of all choices if they are many
(`ppl.transforms.targets`). Two consequences:

- the derived program holds the program four times at most, however many choices it makes, and twice if they
  are many;
- for a first derivative the replaced runs carry no derivative: they are plain simulations.

**Terms.** The result is a sum `r = r_0 + sum_k c_k`, each element of a term `c_k` with a dependence of its
own (`ppl.transforms.terms`). The density of a choice that a term does not depend on sums to one, so the term
is multiplied by the magic boxes of those choices only that it does depend on. For a first derivative that is
the same as multiplying each score by its *return* `R_i`, the terms that depend on it
(`ppl.transforms.returns`); a baseline is subtracted from the return. For the same reason instances that no
term depends on two of are replaced in one run, where each is weighed by its own return.


Choices that are enumerated outside loops and branches are summed over jointly instead: the run is a function
of their values, evaluated under nested `vmap`, and weighted by their probability. All lanes of one take the
same value at once, if no term depends on two lanes: each term is then weighted by the probability in its own.

References:
    Becker, Lew, Wang, Ghavami, Huot, Rinard, Mansinghka, "Probabilistic programming with programmable
    variational inference", 2024.
    Lew, Huot, Staton, Mansinghka, "ADEV: Sound automatic differentiation of expected values of
    probabilistic programs", 2023.
    Foerster et al., "DiCE: The infinitely differentiable Monte Carlo estimator", 2018.
    Schulman, Heess, Weber, Abbeel, "Gradient estimation using stochastic computation graphs", 2015.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.lax import stop_gradient

from ppl.errors import UnsupportedProgram
from ppl.estimators.baselines import Baseline
from ppl.estimators.protocol import magic_box, moved
from ppl.noise import Token
from ppl.site import in_lanes
from ppl.transforms.interpret import total_dtype
from ppl.transforms.naming import Name
from ppl.transforms.occurrences import expectations, occurrences
from ppl.transforms.plan import JOINT_LIMIT, Plan, instances, kept, plan, static
from ppl.transforms.position import Here
from ppl.transforms.returns import gather, spread
from ppl.transforms.runs import Context, Made, make
from ppl.transforms.targets import Target, count_of, evaluated, targets

LEVELS = 4
"""How many enumerated choices get a table each; more of them share two."""


class Derived(NamedTuple):
    """What a derived program computes.

    Attributes:
        value: the surrogate.
        averages: for each choice with a moving average as its baseline, its mean return.
        regression: half the squared error of the learned baselines, summed over instances.
    """

    value: Any
    averages: dict[Name, Any]
    regression: Any


def surrogate(
    jaxpr: Any, arguments: Sequence[Any], key: Any, token: Token, order: int, samples: int = 1,
    parameters: Callable[..., Any] | None = None,
) -> Any:  # fmt: skip
    """A surrogate of the expected value of a staged program that returns one real number. See `derive`."""
    return derive(jaxpr, arguments, key, token, order, samples, parameters=parameters).value


def derive(
    jaxpr: Any, arguments: Sequence[Any], key: Any, token: Token, order: int, samples: int = 1,
    averages: Mapping[Name, Any] | None = None, training: bool = False,
    parameters: Callable[..., Any] | None = None,
) -> Derived:  # fmt: skip
    """A surrogate of the expected value of a staged program, and what trains its estimators.

    Args:
        jaxpr: the staged program.
        arguments: its inputs.
        key: of all the randomness of this run.
        token: asks for independent noise in each lane of an enclosing `vmap`.
        order: the highest order of derivative that will be taken: 0, 1, or 2 for any.
        samples: how many runs `num_samples` averages.
        averages: the state of the moving averages.
        training: whether the parameters of estimators carry derivatives.
        parameters: what the operands of every choice pass through, as `(site, operands) -> operands`; it
            changes no value, but may take derivatives away.
    """
    inner = functools.partial(inner_expectation, parameters=parameters)
    planned = plan(jaxpr, order)
    context = Context(jaxpr, planned, key, token, samples, averages or {}, training, inner, parameters)
    return _summed(context, arguments, order)


def _summed(context: Context, arguments: Sequence[Any], order: int) -> Derived:
    """The sum over all values of what is enumerated jointly."""

    def total(tables: list[dict[Name, Any]], fixed: dict[Name, Any]) -> Derived:
        if not tables:
            return _path(context, arguments, order, fixed)
        found = jax.vmap(lambda values: total(tables[1:], fixed | values))(tables[0])
        return jax.tree.map(lambda x: jnp.sum(x, axis=0), found)

    return total(_tables(context.plan.joint), {})


def _tables(joint: dict[Name, np.ndarray]) -> list[dict[Name, Any]]:
    """All combinations of the enumerated values, as nested tables.

    A nested `vmap` for each choice evaluates nothing more often than it must, but each costs time to compile:
    for ten choices six times that of one flat table. So where there are more than `LEVELS` of them, the
    first half of the choices share a table, and so do the rest.
    """
    names = list(joint)
    parts = np.array_split(np.arange(len(names)), len(names) if len(names) <= LEVELS else 2) if names else []
    tables = []
    for part in parts:
        group = [names[i] for i in part]
        grid = np.indices([len(joint[name]) for name in group]).reshape(len(group), -1)
        tables.append({name: jnp.asarray(joint[name][i]) for name, i in zip(group, grid, strict=True)})
    return tables


def inner_expectation(
    equation: Any, operands: Sequence[Any], name: Name, here: Here, order: int, parameters: Any = None
) -> Any:
    """The surrogate of an inner expectation, in each of its lanes."""
    lanes, mapped, key = equation.params["lanes"], equation.params["mapped"], here.key_of(name)

    def one(operands: list[Any], token: Token) -> Any:
        jaxpr = equation.params["jaxpr"]
        return surrogate(jaxpr, operands, key, token, order, here.samples, parameters)

    return in_lanes(one, lanes, mapped, list(operands), here.token.over(lanes))


def exact_sum(jaxpr: Any, arguments: Sequence[Any], inner: Callable[..., Any]) -> Any:
    """The exact expected value, if all choices can be summed over; `None` if not.

    `inner` gives the exact value of an inner expectation.
    """
    planned = plan(jaxpr, 0, everything=True)
    covered = {*planned.joint, *(planned.chain.items if planned.chain else ())}
    size = math.prod(map(len, planned.joint.values()))
    if size > JOINT_LIMIT or any(item.name not in covered for item in occurrences(jaxpr)):
        return None
    return _summed(Context(jaxpr, planned, None, Token(), 1, {}, False, inner), arguments, 0).value


# --- one run --------------------------------------------------------------------------------------


def _path(context: Context, arguments: Sequence[Any], order: int, fixed: dict[Name, Any]) -> Derived:
    """The surrogate, weighted by the probability of the values that are summed over."""
    planned = context.plan
    _check_loose(planned)
    made = make(context, arguments, order, fixed, None)
    zero = jnp.zeros((), total_dtype())
    if order == 0:
        return Derived(made.result, {}, zero)
    returns = _returns(context, made)
    scored = _scored(context, made, returns, order)
    value = scored.value
    if planned.replaced and order == 1:
        value = value + _replacements(context, arguments, fixed, made, returns)
    elif planned.replaced:
        value = value + _telescope(context, arguments, fixed, made, returns, value)
    return scored._replace(value=value)


def _check_loose(planned: Plan) -> None:
    for item in planned.loose.values():
        if isinstance(getattr(static(item.site)[1], "baseline", None), Baseline):
            raise UnsupportedProgram(
                f"the baseline of the choice {item.site.where} is made of the returns of its steps, which "
                "lie in a while loop whose number of steps is not known. Use a number as its baseline, or "
                "lax.scan, or a lax.fori_loop with static bounds."
            )


def _returns(context: Context, made: Made) -> dict[Name, Any]:
    """The return of every instance that is scored or replaced, without derivative."""
    items = context.plan.scored | context.plan.replaced
    if not items:
        return {}
    shapes = {name: instances(item) for name, item in items.items()}
    return gather(context.plan.cuts, [stop_gradient(term) for term in made.terms], shapes)


def _scored(context: Context, made: Made, returns: Mapping[Name, Any], order: int) -> Derived:
    """The result with its scores; from the second order on, `returns` are used for baselines alone."""
    planned, records = context.plan, made.records
    value, scale = made.result, stop_gradient(made.scale)
    averages, regression = {}, jnp.zeros((), total_dtype())
    if order > 1 and planned.scored:
        scores = {name: moved(records[name, "score"]) for name in planned.scored}
        logs = spread(planned.cuts, scores, total_dtype())
        for log, term in zip(logs, made.terms, strict=True):
            value = value + jnp.sum(term * jnp.expm1(log).astype(term.dtype))
    if planned.loose:
        value = value * magic_box(made.score).astype(value.dtype)
    extra = scale * made.control
    for name in planned.scored:
        score = records[name, "score"]
        baseline = _baseline(context, name, made, returns[name])
        if order > 1:
            extra = extra + jnp.sum(baseline * (1 - magic_box(score)))
        else:
            extra = extra + jnp.sum(stop_gradient(returns[name] - baseline) * moved(score))
        if (shape := kept(planned.scored[name])) is not None:
            pooled = [axis for axis, size in enumerate(shape) if size == 1]
            averages[name] = jnp.mean(returns[name], axis=pooled, keepdims=True)
        if context.training and (name, "baseline") in records:
            error = returns[name] / jnp.maximum(scale, 1e-30) - records[name, "baseline"]
            regression = regression + scale * jnp.sum(error**2) / 2
    return Derived(value + extra.astype(value.dtype), averages, regression)


def _baseline(context: Context, name: Name, made: Made, returns: Any) -> Any:
    """The baseline of each instance, weighted as the returns are."""
    item, scale = context.plan.scored[name], stop_gradient(made.scale)
    if (name, "baseline") in made.records:
        return scale * stop_gradient(made.records[name, "baseline"])
    kind = getattr(static(item.site)[1], "baseline", None)
    if not isinstance(kind, Baseline):
        return jnp.zeros_like(returns)
    found = kind.after(returns, context.samples, context.averages.get(name), item.site.where)
    return stop_gradient(scale * found if kind.averaged else found)


# --- replaced runs --------------------------------------------------------------------------------


def _replacements(
    context: Context, arguments: Sequence[Any], fixed: Any, base: Made, returns: Mapping[Name, Any]
) -> Any:
    """For a first derivative: the sum of weight times (return in the replaced run - return)."""
    planned, records = context.plan, base.records
    names = list(planned.replaced)
    shapes = {name: instances(planned.replaced[name]) for name in names}
    stopped = [stop_gradient(x) for x in arguments]

    def replaced(target: Target) -> Any:
        made = make(context, stopped, 0, fixed, target)
        after = gather(planned.cuts, [stop_gradient(term) for term in made.terms], shapes)
        total = jnp.zeros((), total_dtype())
        for number, name in enumerate(names):
            weights = jax.lax.dynamic_index_in_dim(records[name, "weights"], target.phantom, -1, False)
            hit = target.hits(number, planned.periods[name], [jnp.arange(size) for size in shapes[name]])
            total = total + jnp.sum(jnp.where(hit, weights * (after[name] - returns[name]), 0))
        return total

    total = jnp.zeros((), total_dtype())
    if (values := evaluated(replaced, planned)) is not None:
        total = total + jnp.sum(values)
    for name in names:
        if (name, "excess") in records:
            total = total + jnp.sum(records[name, "excess"] * returns[name])
    return total.astype(base.result.dtype)


def _telescope(
    context: Context,
    arguments: Sequence[Any],
    fixed: Any,
    base: Made,
    returns: Mapping[Name, Any],
    result: Any,
) -> Any:
    """For every order: the sum of weight times (replaced run - base run), with the boxes of those before."""
    planned, records = context.plan, base.records
    names = list(planned.replaced)
    weights = jnp.concatenate([records[name, "weights"].reshape(-1) for name in names]).astype(result.dtype)
    offsets = _offsets(planned)

    def replaced(target: Target) -> Any:
        made = make(context, arguments, 2, fixed, target)
        # The weight of a run may depend on a choice that is scored, whose baseline may then not depend on the
        # run: it is made of the returns of the base run.
        value = _scored(context, made, returns, 2).value
        before = _before(planned, made.records)
        return value * magic_box(before[jnp.asarray(offsets)[target.site] + target.instance]).astype(
            value.dtype
        )

    before = _before(planned, records)
    total = jnp.zeros_like(result)
    if (values := evaluated(replaced, planned)) is not None:
        counts = np.asarray(_phantom_counts(planned))
        boxes = jnp.repeat(magic_box(before), counts, total_repeat_length=len(weights))
        total = jnp.sum(weights * (values - boxes.astype(result.dtype) * result))
    for number, name in enumerate(names):
        if (name, "excess") in records:
            excess = records[name, "excess"].reshape(-1)
            excess = excess * magic_box(before[offsets[number] : offsets[number] + len(excess)])
            total = total + jnp.sum(excess).astype(result.dtype) * result
    return total


def _offsets(planned: Plan) -> np.ndarray:
    sizes = [item.size for item in planned.replaced.values()]
    return np.concatenate([[0], np.cumsum(sizes)[:-1]]).astype(int)


def _phantom_counts(planned: Plan) -> list[int]:
    return [item.site.phantoms for item in planned.replaced.values() for _ in range(item.size)]


def evaluations(jaxpr: Any) -> int:
    """How often the program is run for one first derivative: once, and once more for each replaced run.

    An inner expectation counts as if all the rest of the program were run as often as it is.
    """
    planned = plan(jaxpr, 1)
    replaced = sum(map(count_of, targets(planned)))
    count = math.prod(map(len, planned.joint.values())) * (1 + replaced)
    inner = [equation.params["jaxpr"] for equation in expectations(jaxpr)]
    return count * (1 + sum(evaluations(held) - 1 for held in inner))


def _before(planned: Plan, records: Any) -> Any:
    """For each instance, the log density of all instances before it."""
    scores = jnp.concatenate([records[name, "log_density"].reshape(-1) for name in planned.replaced])
    return jnp.concatenate([jnp.zeros(1, scores.dtype), jnp.cumsum(scores)[:-1]])
