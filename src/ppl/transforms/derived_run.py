"""One run of a derived program: the rule that draws, scores, weighs and replaces its choices."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.distributions.density import mass
from ppl.estimators.protocol import Contribution, magic_box
from ppl.noise import Noise
from ppl.site import Site
from ppl.transforms.interpret import Outcome, Rule, total_dtype
from ppl.transforms.naming import Name
from ppl.transforms.one_choice import noise_of, score_choice
from ppl.transforms.plan import Plan
from ppl.transforms.position import Here
from ppl.transforms.targets import Target


class Derive(Rule):
    """One run: values, scores and weights.

    Attributes:
        plan: how each choice is treated.
        order: 0 for the value alone, 1 for a first derivative, 2 for any.
        fixed: the values of jointly enumerated choices.
        target: the instances that this run replaces; `None` in the base run.
        training: whether the parameters of estimators carry derivatives.
        inner: derives an inner expectation.
        parameters: what the operands of every choice pass through, as `(site, operands) -> operands`.
    """

    totals = ("score", "control")

    def __init__(
        self, plan: Plan, order: int, fixed: Mapping[Name, Any], target: Target | None, training: bool,
        inner: Callable[..., Any], parameters: Callable[[Site, list[Any]], list[Any]] | None = None,
    ) -> None:  # fmt: skip
        self.plan, self.order, self.fixed, self.target = plan, order, fixed, target
        self.training, self.inner, self.parameters = training, inner, parameters
        self.index = {name: number for number, name in enumerate(plan.replaced)}

    @override
    def recorded(self, name: Name, site: Site) -> dict[Any, Any]:
        float_ = total_dtype()
        shapes: dict[Any, Any] = {}
        if name in self.plan.scored and self.order:
            shapes[name, "score"] = (site.instances, float_)
            if site.baseline:
                shapes[name, "baseline"] = (site.instances, float_)
        if name in self.index and self.order:
            if self.target is None:
                shapes[name, "weights"] = ((*site.instances, site.phantoms), float_)
                if 0 < site.excess <= self.order:
                    shapes[name, "excess"] = (site.instances, float_)
            if self.order > 1:
                shapes[name, "log_density"] = (site.instances, float_)
        return shapes

    @override
    def choose(self, name: Name, site: Site, operands: list[Any], here: Here) -> Outcome:
        if self.parameters is not None:
            operands = self.parameters(site, operands)
        if name in self.fixed:
            event = site.shape[len(site.batch_shape) :]
            value = jnp.broadcast_to(self.fixed[name].astype(site.dtype), (*site.instances, *event))
            return self._given(name, site, operands, value)
        if self.plan.chain is not None and name in self.plan.chain.items:
            return self._given(name, site, operands, here.feed[name])
        key, token = noise_of(name, site, here)

        def lane(distribution: Any, estimator: Any, token: Any) -> Contribution:
            if not self.training:
                estimator = jax.tree.map(jax.lax.stop_gradient, estimator)
            return estimator.contribute(distribution, Noise(key, token, here.samples), max(self.order, 1))

        if site.lanes:
            made = site.per_lane(lane, operands, token)
        else:
            distribution, estimator = jax.tree.unflatten(site.tree, site.split(operands)[0])
            made = lane(distribution, estimator, token)
        value = made.value
        if self.target is not None and name in self.index and self.target.may_hit(self.index[name]):
            value = self._replace(self.target, name, site, made, here)
        if self.order == 0:
            return Outcome(value)
        mask = site.mask_over(operands, site.batch_shape)
        # Records are of the draw, not of the phantom, whose probability may be zero and its log infinite;
        # the log density of a replaced instance itself is not used.
        return Outcome(value, self._totals(name, made, mask), self._records(name, site, operands, made, mask))

    def _given(self, name: Name, site: Site, operands: list[Any], value: Any) -> Outcome:
        """A choice that is summed over: its value is given, its probability recorded."""
        probability = site.per_lane(lambda distribution, _, value: mass(distribution, value), operands, value)
        return Outcome(value, records={(name, "probability"): probability.astype(total_dtype())})

    def _replace(self, target: Target, name: Name, site: Site, made: Contribution, here: Here) -> Any:
        """The value, with the target's instances replaced if this is where they lie."""
        phantoms = jnp.moveaxis(made.phantoms, len(site.lanes), 0)
        phantom = jax.lax.dynamic_index_in_dim(phantoms, target.phantom, keepdims=False)
        index = [*(loop.step for loop in here.loops), *map(jnp.arange, site.instances)]
        hit = target.hits(self.index[name], self.plan.periods[name], index)
        hit = jnp.broadcast_to(hit, site.instances)
        event = made.value.ndim - len(site.instances)
        return jnp.where(hit.reshape(*site.instances, *(1,) * event), phantom, made.value)

    def _totals(self, name: Name, made: Contribution, mask: Any) -> dict[str, Any]:
        totals = {}
        if made.control is not None:
            totals["control"] = jnp.sum(_where(mask, made.control))
        if name in self.plan.loose and made.score is not None:
            totals["score"] = jnp.sum(_where(mask, made.score))
            if made.baseline is not None:
                control = jax.lax.stop_gradient(made.baseline) * (1 - magic_box(made.score))
                totals["control"] = totals.get("control", 0) + jnp.sum(_where(mask, control))
        return totals

    def _records(
        self, name: Name, site: Site, operands: Any, made: Contribution, mask: Any
    ) -> dict[Any, Any]:
        wanted = self.recorded(name, site)
        found: dict[Any, Any] = {}
        for what, made_of in (("score", made.score), ("baseline", made.baseline), ("excess", made.excess)):
            if (name, what) in wanted:
                found[name, what] = _where(mask, jnp.zeros(()) if made_of is None else made_of)
        if (name, "weights") in wanted:
            weights = jnp.moveaxis(made.weights, len(site.lanes), -1)
            found[name, "weights"] = _where(None if mask is None else mask[..., None], weights)
        if (name, "log_density") in wanted:
            found[name, "log_density"] = score_choice(site, operands, jax.lax.stop_gradient(made.value))
        return {key: jnp.broadcast_to(x, wanted[key][0]).astype(wanted[key][1]) for key, x in found.items()}

    @override
    def expect(self, name: Name, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        return [self.inner(equation, operands, name, here, self.order)]


def _where(mask: Any, x: Any) -> Any:
    return x if mask is None else jnp.where(mask, x, 0)
