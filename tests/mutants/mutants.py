"""Deliberately broken estimators and transformations: each a patch of one name of the library.

They are the faults that were found in other libraries, or survived their tests. A checker that lets one of
them pass is blind to it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple
from unittest.mock import patch

import jax
import jax.numpy as jnp
import numpyro.distributions as npd
from jax.lax import stop_gradient

from ppl import derived, noise
from ppl.distributions import sampling
from ppl.distributions.density import log_density
from ppl.distributions.sampling import draw
from ppl.estimators import MeasureValued, Reinforce, Reparam
from ppl.estimators.baselines import LeaveOneOut
from ppl.noise import SAMPLES
from ppl.objectives import bounds
from ppl.transforms import derived_run, gradient, interpret, position, runs


class Mutant(NamedTuple):
    """A fault: what it is, and the patch that makes it."""

    name: str
    make: Callable[[], Any]


def _contribution(kind: Any, change: Callable[..., Any]) -> Callable[[], Any]:
    """What an estimator contributes, changed by `change(made, distribution, noise)`."""
    right = kind.contribute

    def wrong(self: Any, distribution: Any, noise: Any, order: int) -> Any:
        return change(right(self, distribution, noise, order), distribution, noise)

    return lambda: patch.object(kind, "contribute", wrong)


def _score(change: Callable[[Any], Any]) -> Callable[[], Any]:
    return _contribution(Reinforce, lambda made, *_: made._replace(score=change(made.score)))


def _weights(change: Callable[[Any], Any]) -> Callable[[], Any]:
    return _contribution(MeasureValued, lambda made, *_: made._replace(weights=change(made.weights)))


def _fresh_score(made: Any, distribution: Any, noise: Any) -> Any:
    other = stop_gradient(draw(jax.tree.map(stop_gradient, distribution), noise))
    return made._replace(score=log_density(distribution, other))


def _moving_sample(made: Any, distribution: Any, noise: Any) -> Any:
    if not sampling.is_reparameterized(distribution):
        return made
    return made._replace(value=made.value + distribution.mean - stop_gradient(distribution.mean))


def _gathered(change: Callable[[Any], Any]) -> Callable[[], Any]:
    right = gradient.gather

    def wrong(*args: Any) -> Any:
        return {name: change(x) for name, x in right(*args).items()}

    return lambda: patch.object(gradient, "gather", wrong)


def _first_only(x: Any) -> Any:
    return x.at[1:].set(0) if jnp.ndim(x) else x


def _made(when: Callable[[Any], bool], what: Callable[[Any], Any]) -> Callable[[], Any]:
    right = gradient.make

    def wrong(context: Any, *args: Any) -> Any:
        made = right(context, *args)
        return what(made) if when(context.plan) else made

    return lambda: patch.object(gradient, "make", wrong)


def _without_result(made: Any) -> Any:
    return made._replace(result=stop_gradient(made.result))


def _run(what: Callable[[Any], Any]) -> Callable[[], Any]:
    right = runs._run

    def wrong(context: Any, *args: Any) -> Any:
        run = right(context, *args)
        return what(run) if context.plan.joint else run

    return lambda: patch.object(runs, "_run", wrong)


def _fixed_value(run: Any) -> Any:
    return run._replace(value=stop_gradient(run.value), terms=[stop_gradient(x) for x in run.terms])


def _swapped_mass() -> Any:
    right = derived_run.mass
    return patch.object(derived_run, "mass", lambda d, v: right(d, 1 - v if v.ndim == 0 else v[::-1]))


def _swapped_branches() -> Any:
    right = interpret._cond

    def wrong(branches: Any, index: Any, operands: Any, rule: Any, here: Any) -> Any:
        if len(branches) == 2:
            index = 1 - jnp.asarray(index).astype(int)
        return right(branches, index, operands, rule, here)

    return patch.object(interpret, "_cond", wrong)


def _returns(which: Callable[[Any], bool]) -> Callable[[], Any]:
    """No return for some choices, as if the rest of the program did not reach them."""
    right = gradient._returns

    def wrong(context: Any, made: Any) -> Any:
        items = context.plan.scored | context.plan.replaced
        return {
            name: jnp.zeros_like(x) if which(items[name]) else x for name, x in right(context, made).items()
        }

    return lambda: patch.object(gradient, "_returns", wrong)


def _without_derivative(name: str) -> Callable[[], Any]:
    """A construct whose results carry no derivative, as if the choices in it were not there."""
    right = getattr(interpret, name)

    def wrong(*args: Any) -> Any:
        found = right(*args)
        return found._replace(
            outputs=[stop_gradient(x) for x in found.outputs],
            records={k: stop_gradient(x) for k, x in found.records.items()},
        )

    return lambda: patch.object(interpret, name, wrong)


def _one_draw_for_all_lanes() -> Any:
    right = noise.Noise.draw

    def wrong(self: Any, *args: Any) -> Any:
        self._token = noise.Token(False, False)
        return right(self, *args)

    return patch.object(noise.Noise, "draw", wrong)


def _one_draw_for_all_steps() -> Any:
    right = position.Here.key_of

    def wrong(self: Any, name: Any, site: Any = None) -> Any:
        return right(self._replace(loops=tuple(loop._replace(step=0) for loop in self.loops)), name, site)

    return patch.object(position.Here, "key_of", wrong)


def _lost_scale() -> Any:
    right = Reparam.contribute

    def wrong(self: Any, distribution: Any, noise: Any, order: int) -> Any:
        leaves, tree = jax.tree.flatten(distribution)
        fixed = jax.tree.unflatten(tree, [leaves[0], *map(stop_gradient, leaves[1:])])
        return right(self, fixed, noise, order)

    return patch.object(Reparam, "contribute", wrong)


def _covariance_for_root() -> Any:
    right = Reparam.contribute

    def wrong(self: Any, distribution: Any, noise: Any, order: int) -> Any:
        if isinstance(distribution, npd.MultivariateNormal):
            root = distribution.scale_tril
            distribution = npd.MultivariateNormal(distribution.loc, scale_tril=root @ root.T)
        return right(self, distribution, noise, order)

    return patch.object(Reparam, "contribute", wrong)


def _included_in_its_own_baseline() -> Any:
    def wrong(self: Any, returns: Any, samples: int, state: Any, where: str) -> Any:
        return jax.lax.psum(returns, SAMPLES) / samples

    return patch.object(LeaveOneOut, "after", wrong)


def _summed_samples() -> Any:
    right = derived.derived

    def wrong(staged: Any, key: Any, num_samples: int, *args: Any, **options: Any) -> Any:
        found = right(staged, key, num_samples, *args, **options)
        return found._replace(value=found.value * num_samples)

    return patch.object(derived, "derived", wrong)


def _mean_of_logs() -> Any:
    return patch.object(bounds, "log_mean_exp", lambda x: jnp.mean(x, axis=-1))


MUTANTS = [
    Mutant("score term dropped", _score(jnp.zeros_like)),
    Mutant("score halved", _score(lambda x: x / 2)),
    Mutant("score negated", _score(jnp.negative)),
    Mutant("only the first lane or step is scored", _gathered(_first_only)),
    Mutant("direct derivative dropped beside scores", _made(lambda p: bool(p.scored), _without_result)),
    Mutant("score of a fresh sample", _contribution(Reinforce, _fresh_score)),
    Mutant("measure-valued constant halved", _weights(lambda x: x / 2)),
    Mutant("measure-valued sign", _weights(jnp.negative)),
    Mutant("direct derivative dropped beside phantoms", _made(lambda p: bool(p.replaced), _without_result)),
    Mutant("enumerated values without derivative", _run(_fixed_value)),
    Mutant("enumerated weights swapped", _swapped_mass),
    Mutant("branches of a conditional swapped", _swapped_branches),
    Mutant("the rest of the program does not reach a branch", _returns(lambda item: bool(item.branches))),
    Mutant("choices in a loop ignored", _returns(lambda item: bool(item.lengths))),
    Mutant("choices below checkpoint ignored", _without_derivative("_remat")),
    Mutant("one draw for all lanes", _one_draw_for_all_lanes),
    Mutant("one draw for all steps", _one_draw_for_all_steps),
    Mutant("sample of a score not held fixed", _contribution(Reinforce, _moving_sample)),
    Mutant(
        "reparameterized sample held fixed",
        _contribution(Reparam, lambda made, *_: made._replace(value=stop_gradient(made.value))),
    ),
    Mutant("derivative in the scale lost", _lost_scale),
    Mutant("covariance for its root", _covariance_for_root),
    Mutant("mean over samples scaled twice", _summed_samples),
    Mutant("baseline that holds its own sample", _included_in_its_own_baseline),
    Mutant("mean of logs for log of mean", _mean_of_logs),
]
