"""One run of a derived program, or the sum of the runs over a chain: its terms, weighted by probability."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.noise import Token
from ppl.transforms.chain import marginals, weights
from ppl.transforms.derived_run import Derive
from ppl.transforms.interpret import total_dtype, walk
from ppl.transforms.naming import Name
from ppl.transforms.plan import Plan
from ppl.transforms.position import Here, start
from ppl.transforms.returns import placed
from ppl.transforms.targets import Target


class Context(NamedTuple):
    """All of a derivation that is the same in each of its runs.

    Attributes:
        jaxpr: the program.
        plan: how its choices are treated.
        key, token, samples: of its noise.
        averages: the state of the moving averages.
        training: whether estimators' own parameters carry derivatives.
        inner: derives an inner expectation.
        parameters: what the operands of every choice pass through.
    """

    jaxpr: Any
    plan: Plan
    key: Any
    token: Token
    samples: int
    averages: Mapping[Name, Any]
    training: bool
    inner: Callable[..., Any]
    parameters: Callable[..., Any] | None = None


class Made(NamedTuple):
    """What one run has made.

    Attributes:
        result: the result, weighted by probability.
        terms: the elements of each term, weighted by probability.
        scale: the weight of a run as a whole, whatever it computes; such weights sum to one over all runs.
        score, control: totals of the run.
        records: arrays that the run has recorded.
    """

    result: Any
    terms: list[Any]
    scale: Any
    score: Any
    control: Any
    records: dict[Any, Any]


class Run(NamedTuple):
    """One run, as it comes out of the walk: the result, the elements of its terms, records and totals."""

    value: Any
    terms: list[Any]
    records: dict[Any, Any]
    totals: dict[str, Any]


def _run(
    context: Context, arguments: Sequence[Any], order: int, fixed: Any, target: Target | None, given: Any
) -> Run:
    """One run; `given` are the values of a chain."""
    planned = context.plan
    rule = Derive(planned, order, fixed, target, context.training, context.inner, context.parameters)

    def run(changes: list[Any]) -> Any:
        feed = given | {cut.key: change for cut, change in zip(planned.cuts, changes, strict=True)}
        here: Here = start(context.key, context.token, feed, context.jaxpr, context.samples)
        root = None if planned.terms is None else planned.terms.root
        found = walk(context.jaxpr, arguments, rule, here, root)
        return found.weighted.get(0, found.outputs[0]), (found.outputs[0], found.totals, found.records)

    if not planned.cuts:
        _, (value, totals, records) = run([])
        return Run(value, [], records, totals)
    changes = [jnp.zeros(cut.shape, cut.dtype) for cut in planned.cuts]
    weighted, pull, (value, totals, records) = jax.vjp(run, changes, has_aux=True)
    (terms,) = pull(jnp.ones_like(weighted))
    return Run(value, terms, records, totals)


def make(context: Context, arguments: Sequence[Any], order: int, fixed: Any, target: Target | None) -> Made:
    """One run, or the sum of the runs over a chain, with its terms and their weights."""
    planned, chain = context.plan, context.plan.chain

    def made(given: Any) -> tuple[Run, Any, Any]:
        run = _run(context, arguments, order, fixed, target, given)
        singles = [run.records[name, "probability"] for name in planned.joint if name not in planned.lanes]
        single = math.prod(singles, start=1)
        terms = [
            single * term * _probability(planned, number, run.records).astype(term.dtype)
            for number, term in enumerate(run.terms)
        ]
        scale = single / math.prod(len(planned.joint[name]) for name in planned.lanes)
        split = planned.lanes or chain
        rest = run.value - sum(jnp.sum(term) for term in run.terms) if split else run.value
        return run._replace(terms=terms), (scale * rest).astype(run.value.dtype), jnp.asarray(scale, float)

    if chain is None:
        run, rest, scale = made({})
    else:
        runs, rests, scales = jax.vmap(lambda assigned: made(chain.feed(assigned)))(chain.runs)
        laws = marginals(chain, {name: runs.records[name, "probability"] for name in chain.items})
        terms = [
            jnp.sum(term * weights(chain, laws, cut).astype(term.dtype), axis=0)
            for term, cut in zip(runs.terms, planned.cuts, strict=True)
        ]
        # Nothing else that is recorded depends on the chain.
        run = jax.tree.map(lambda x: x[0], runs._replace(terms=[]))._replace(terms=terms)
        rest, scale = jnp.mean(rests), jnp.mean(scales)
    result = rest
    if planned.lanes or chain:
        result = sum((jnp.sum(term).astype(rest.dtype) for term in run.terms), start=result)
    return Made(result, run.terms, scale, run.totals["score"], run.totals["control"], run.records)


def _probability(planned: Plan, number: int, records: dict[Any, Any]) -> Any:
    """For each element of a term, the probability of the values of lanes that are summed over.

    A choice that an element does not depend on counts as uniform, so that its values add up to one.
    """
    cut, product = planned.cuts[number], jnp.ones((), total_dtype())
    for name in planned.lanes:
        uniform = 1 / len(planned.joint[name])
        if name in cut.dependence:
            excess = records[name, "probability"] - uniform
            product = product * (placed(excess, cut.dependence[name], cut.shape) + uniform)
        else:
            product = product * uniform
    return product
