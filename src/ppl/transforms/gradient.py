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
again, vectorized over all instances and values. Two consequences:

- the derived program holds the program twice at most, however many choices it makes;
- for a first derivative the replaced runs carry no derivative: they are plain simulations.

Single choices that are enumerated outside loops, lanes and branches are summed over jointly instead: the
run is a function of their values, evaluated under one nested `vmap`, and weighted by their probability.

References:
    Becker, Lew, Wang, Ghavami, Huot, Rinard, Mansinghka, "Probabilistic programming with programmable
    variational inference", 2024.
    Lew, Huot, Staton, Mansinghka, "ADEV: Sound automatic differentiation of expected values of
    probabilistic programs", 2023.
    Foerster et al., "DiCE: The infinitely differentiable Monte Carlo estimator", 2018.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, override

import jax
import jax.numpy as jnp
import numpy as np

from ppl.distributions.density import mass
from ppl.errors import UnsupportedProgram
from ppl.estimators.protocol import Contribution, magic_box
from ppl.noise import Noise, Token
from ppl.site import Site
from ppl.transforms.interpret import Outcome, Rule, total_dtype, walk
from ppl.transforms.naming import Name
from ppl.transforms.occurrences import Occurrence, occurrences
from ppl.transforms.position import Here, start
from ppl.transforms.run import noise_of, score_choice

JOINT_LIMIT = 2**16
"""How many combinations of enumerated values are evaluated at once, at most."""

LEVELS = 4
"""How many enumerated choices get a table each; more of them share two."""

CHUNK = 1024
"""How many replaced runs are evaluated at once, at most."""


class Target(NamedTuple):
    """Which instance of which choice a replaced run replaces, and by which of its phantoms."""

    site: Any
    instance: Any
    phantom: Any


class Plan(NamedTuple):
    """How each choice of a program is treated, apart from those that a single run settles.

    Attributes:
        joint: single enumerated choices, with their support.
        replaced: choices whose instances are replaced one at a time.
    """

    joint: dict[Name, np.ndarray]
    replaced: dict[Name, Occurrence]


def _estimator(site: Site, operands: Sequence[Any]) -> tuple[Any, Any]:
    return jax.tree.unflatten(site.tree, site.split(operands)[0])


def _static(site: Site) -> tuple[Any, Any]:
    """The distribution and estimator of a choice, with placeholders for arrays."""
    leaves = [np.zeros(())] * site.tree.num_leaves
    return jax.tree.unflatten(site.tree, leaves)


def plan(jaxpr: Any, order: int) -> Plan:
    """Decide between joint summation, replacement and a single run, choice by choice.

    For a value alone (`order` zero) nothing is replaced.

    Raises:
        UnsupportedProgram: an enumerated or measure-valued choice lies in a loop of unknown length, or
            there are more joint combinations than `JOINT_LIMIT`.
    """
    joint: dict[Name, np.ndarray] = {}
    replaced: dict[Name, Occurrence] = {}
    for item in occurrences(jaxpr):
        estimator = _static(item.site)[1]
        single = not (item.lengths or item.branches or item.site.instances)
        if estimator.joint and single and item.site.support is not None:
            joint[item.name] = item.site.support
        elif item.site.phantoms and order and not (order > 1 and estimator.score_beyond_first):
            if None in item.lengths:
                raise UnsupportedProgram(
                    f"the choice {item.site.where} is estimated by {type(estimator).__name__}, which runs "
                    "the program again for each step, inside a while loop whose number of steps is not "
                    "known. Use ppl.estimators.Reinforce() there, or lax.scan, or a lax.fori_loop "
                    "with static bounds."
                )
            replaced[item.name] = item
    combinations = math.prod(len(support) for support in joint.values())
    if combinations > JOINT_LIMIT:
        names = ", ".join(repr(name[0]) for name in joint)
        raise UnsupportedProgram(
            f"summing over {len(joint)} enumerated choices takes {combinations} evaluations, more than "
            f"{JOINT_LIMIT}. Choose ppl.estimators.Reinforce() for some of {names}."
        )
    return Plan(joint, replaced)


class _Derive(Rule):
    """One run: values, scores and weights.

    Attributes:
        fixed: the values of jointly enumerated choices.
        target: the instance that this run replaces; `None` in the base run.
        order: 0 for the value alone, 1 for a first derivative, 2 for any.
    """

    totals = ("score", "control")

    def __init__(
        self, plan: Plan, order: int, fixed: Mapping[Name, Any], target: Target | None = None
    ) -> None:
        self.plan, self.order, self.fixed, self.target = plan, order, fixed, target
        self.index = {name: number for number, name in enumerate(plan.replaced)}

    @override
    def recorded(self, name: Name, site: Site) -> dict[Any, Any]:
        if name not in self.index or self.order == 0:
            return {}
        float_ = total_dtype()
        shapes: dict[Any, Any] = {(name, "weights"): ((*site.instances, site.phantoms), float_)}
        if self.target is not None:
            shapes = {}
        if self.order > 1:
            shapes[name, "log_density"] = (site.instances, float_)
        if self.target is None and 0 < site.excess <= self.order:
            shapes[name, "excess"] = (site.instances, float_)
        return shapes

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        if name in self.fixed:
            return self._fixed(name, site, operands)
        key, token = noise_of(name, site, here)

        def lane(distribution: Any, estimator: Any, token: Any) -> Contribution:
            return estimator.contribute(distribution, Noise(key, token, here.samples), max(self.order, 1))

        if site.lanes:
            made = site.per_lane(lane, operands, token)
        else:
            made = lane(*_estimator(site, operands), token)
        if self.order == 0 and self.target is None:
            return Outcome(made.value)
        mask = site.mask_over(operands, site.batch_shape)
        totals = {"score": _where(mask, made.score), "control": _where(mask, made.control)}
        totals = {total: jnp.sum(x) for total, x in totals.items() if x is not None}
        if name not in self.index:
            return Outcome(made.value, totals)
        value = made.value if self.target is None else self._replace(name, site, made, here)
        # Records are of the draw, not of the phantom, whose probability may be zero and its log infinite;
        # the log density of a replaced instance itself is not used.
        return Outcome(value, totals, self._records(name, site, operands, made, mask))

    def _fixed(self, name: Name, site: Site, operands: list[Any]) -> Outcome:
        distribution, _ = _estimator(site, operands)
        value = self.fixed[name].astype(site.dtype)
        probability = mass(distribution, value).astype(total_dtype())
        return Outcome(value, records={(name, "probability"): probability})

    def _replace(self, name: Name, site: Site, made: Contribution, here: Here) -> Any:
        """The value, with the target's instance replaced if this is where it lies."""
        assert self.target is not None
        phantoms = jnp.moveaxis(made.phantoms, len(site.lanes), 0)
        phantom = jax.lax.dynamic_index_in_dim(phantoms, self.target.phantom, keepdims=False)
        number = jnp.asarray(0)
        for loop in here.loops:
            number = number * (loop.length or 0) + loop.step
        count = math.prod(site.instances)
        numbers = number * count + jnp.arange(count).reshape(site.instances)
        hit = (self.target.site == self.index[name]) & (self.target.instance == numbers)
        event = made.value.ndim - len(site.instances)
        return jnp.where(hit.reshape(*site.instances, *(1,) * event), phantom, made.value)

    def _records(
        self, name: Name, site: Site, operands: Any, made: Contribution, mask: Any
    ) -> dict[Any, Any]:
        wanted = self.recorded(name, site)
        found: dict[Any, Any] = {}
        if (name, "weights") in wanted:
            weights = jnp.moveaxis(made.weights, len(site.lanes), -1)
            weight_mask = None if mask is None else mask[..., None]
            found[name, "weights"] = _where(weight_mask, weights)
        if (name, "excess") in wanted:
            excess = jnp.zeros(site.instances) if made.excess is None else made.excess
            found[name, "excess"] = _where(mask, excess)
        if (name, "log_density") in wanted:
            found[name, "log_density"] = score_choice(site, operands, jax.lax.stop_gradient(made.value))
        return {key: jnp.broadcast_to(x, wanted[key][0]).astype(wanted[key][1]) for key, x in found.items()}

    @override
    def expect(self, name: Name, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        order = 0 if self.target is not None and self.order < 2 else self.order
        return [inner_expectation(equation, operands, name, here, order)]


def _where(mask: Any, x: Any) -> Any:
    return x if mask is None or x is None else jnp.where(mask, x, 0)


def inner_expectation(equation: Any, operands: Sequence[Any], name: Name, here: Here, order: int) -> Any:
    """The surrogate of an inner expectation, in each of its lanes."""
    lanes, mapped, key = equation.params["lanes"], equation.params["mapped"], here.key_of(name)

    def one(token: Token, *operands: Any) -> Any:
        return surrogate(equation.params["jaxpr"], operands, key, token, order, here.samples)

    for axis in reversed(range(len(lanes))):
        axes = (0, *(0 if carried[axis] else None for carried in mapped))
        one = jax.vmap(one, in_axes=axes, axis_size=lanes[axis])
    return one(here.token.over(lanes), *operands)


def surrogate(
    jaxpr: Any, arguments: Sequence[Any], key: Any, token: Token, order: int, samples: int = 1
) -> Any:
    """A surrogate of the expected value of a staged program that returns one real number.

    Args:
        jaxpr: the staged program.
        arguments: its inputs.
        key: of all the randomness of this run.
        token: asks for independent noise in each lane of an enclosing `vmap`.
        order: the highest order of derivative that will be taken: 0, 1, or 2 for any.
        samples: how many runs `num_samples` averages.
    """
    planned = plan(jaxpr, order)

    def run(arguments: Sequence[Any], order: int, fixed: Any, target: Target | None) -> tuple[Any, Any, Any]:
        rule = _Derive(planned, order, fixed, target)
        result = walk(jaxpr, arguments, rule, start(key, token, jaxpr=jaxpr, samples=samples))
        value = result.outputs[0]
        if order:
            control = result.totals["control"].astype(value.dtype)
            value = value * magic_box(result.totals["score"]).astype(value.dtype) + control
        probability = [result.records[name, "probability"] for name in planned.joint]
        return value, math.prod(probability, start=1), result.records

    def path(fixed: dict[Name, Any]) -> Any:
        value, probability, records = run(arguments, order, fixed, None)
        base = probability * value
        if order == 0 or not planned.replaced:
            return base
        return base + _replacements(planned, order, base, records, lambda *a: run(*a), arguments, fixed)

    def total(tables: list[dict[Name, Any]], fixed: dict[Name, Any]) -> Any:
        if not tables:
            return path(fixed)
        return jnp.sum(jax.vmap(lambda values: total(tables[1:], fixed | values))(tables[0]))

    return total(_tables(planned.joint), {})


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


def _replacements(
    plan: Plan, order: int, base: Any, records: Any, run: Any, arguments: Sequence[Any], fixed: Any
) -> Any:
    """The sum over all instances and phantoms of weight times (replaced run - base run)."""
    names = list(plan.replaced)
    targets = _targets(plan)
    weights = jnp.concatenate([records[name, "weights"].reshape(-1) for name in names])
    stopped = [jax.lax.stop_gradient(x) for x in arguments] if order == 1 else arguments

    def replaced(target: Target) -> Any:
        value, probability, found = run(stopped, order if order > 1 else 0, fixed, target)
        value = probability * value
        if order == 1:
            return jax.lax.stop_gradient(value)
        before = _before(plan, found)
        offsets = jnp.asarray(_offsets(plan))
        return value * magic_box(before[offsets[target.site] + target.instance]).astype(value.dtype)

    if not len(targets.site):
        return jnp.zeros_like(base)
    values = _map(replaced, targets)
    if order == 1:
        base = jax.lax.stop_gradient(base)
        total = jnp.sum(weights.astype(base.dtype) * (values - base))
    else:
        before = _before(plan, records)
        boxes = jnp.repeat(
            magic_box(before), np.asarray(_phantom_counts(plan)), total_repeat_length=len(weights)
        )
        total = jnp.sum(weights.astype(base.dtype) * (values - boxes.astype(base.dtype) * base))
    for name in names:
        if (name, "excess") in records:
            excess = records[name, "excess"].reshape(-1)
            if order > 1:
                first = _offsets(plan)[names.index(name)]
                excess = excess * magic_box(before[first : first + len(excess)])
            total = total + jnp.sum(excess).astype(base.dtype) * base
    return total


def _map(function: Any, targets: Target) -> Any:
    count = len(targets.site)
    if count <= CHUNK:
        return jax.vmap(function)(targets)
    return jax.lax.map(function, targets, batch_size=CHUNK)


def _sizes(plan: Plan) -> list[int]:
    return [item.size for item in plan.replaced.values()]


def _offsets(plan: Plan) -> np.ndarray:
    return np.concatenate([[0], np.cumsum(_sizes(plan))[:-1]]).astype(int)


def _phantom_counts(plan: Plan) -> list[int]:
    counts = [item.site.phantoms for item in plan.replaced.values()]
    return [count for count, size in zip(counts, _sizes(plan), strict=True) for _ in range(size)]


def _targets(plan: Plan) -> Target:
    """Every instance and phantom, in the order of the flattened weights."""
    sites, instances, phantoms = [], [], []
    for number, (item, size) in enumerate(zip(plan.replaced.values(), _sizes(plan), strict=True)):
        grid = np.indices((size, item.site.phantoms)).reshape(2, -1)
        sites.append(np.full(grid.shape[1], number))
        instances.append(grid[0])
        phantoms.append(grid[1])
    return Target(*(jnp.asarray(np.concatenate(part)) for part in (sites, instances, phantoms)))


def _before(plan: Plan, records: Any) -> Any:
    """For each instance, the log density of all instances before it."""
    scores = jnp.concatenate([records[name, "log_density"].reshape(-1) for name in plan.replaced])
    return jnp.concatenate([jnp.zeros(1, scores.dtype), jnp.cumsum(scores)[:-1]])
