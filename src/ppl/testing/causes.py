"""What makes a guide's weights bad: experiments, and what may be concluded from them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax
from scipy import stats

from ppl.errors import PPLError
from ppl.expectation import Expectation
from ppl.measure import Measure
from ppl.objectives import elbo
from ppl.testing.pareto import Weights, smoothed
from ppl.testing.proposals import (
    COVARIANCE,
    MEAN,
    SCALE,
    Draws,
    PriorDraws,
    matched,
    of_guide,
    of_prior,
    space,
    unbounded_rays,
)
from ppl.train.fit import fit

# Gradients that are averaged; the rate at which one of their means is called nonzero by chance.
_GRADIENTS, _RATE = 200, 1e-3
# A gain in the objective that is worth more steps, in nats, and how many standard errors it must be.
_MATERIAL, _ERRORS = 0.05, 4.0
_STEP = 0.03


class Case(NamedTuple):
    """What is looked at.

    Attributes:
        target, guide: as given.
        function, params: the guide as a function of its parameters, and these, or `None`.
        objective: what was maximized, or `None` for the ELBO.
        draws, weights: of the guide.
        steps: how many more steps are tried.
        key: with which the guide was drawn.
    """

    target: Measure
    guide: Measure
    function: Callable[[Any], Measure] | None
    params: Any
    objective: Expectation | None
    draws: Draws
    weights: Weights
    steps: int
    key: jax.Array


@dataclass
class Finding:
    """What has been found so far; see `KhatReport`."""

    reliable: bool | None
    cause: str
    evidence: list[str]
    advice: str
    attempts: dict[str, Weights]

    def conclude(self, cause: str, advice: str, *evidence: str) -> Finding:
        """The cause, and what shows it."""
        self.cause, self.advice = cause, advice
        self.evidence += evidence
        return self


def find(case: Case, key: jax.Array) -> Finding:
    """The cause, by the cheapest experiments first."""
    prior_key, ray_key, train_key = jax.random.split(key, 3)
    found = Finding(case.weights.reliable, "unknown", [], "", {})
    prior = of_prior(case.target, case.guide, case.draws.choices, prior_key, len(case.draws.log_target))
    if 0 < case.weights.zeros < 1:
        found.evidence.append(
            f"the target rules out {_percent(case.weights.zeros)} of the guide's draws: the ELBO is -inf, "
            f"though "
            "importance weights of zero do no harm."
        )
    if _not_numbers(case, prior, found) or _missed(case, prior, found):
        return found
    if found.reliable:
        return found
    if case.weights.status == "too few draws":
        return found.conclude("unknown", "Take num_samples=100 at least, better 4000.")
    if case.weights.status == "tied weights":
        return found.conclude(
            "unknown",
            "Compare effective draws and the ELBO instead.",
            "the largest weights are equal: they have no tail, as for a guide with few values.",
        )
    where = space(case.target, case.draws)
    if where is not None and (rays := unbounded_rays(where, ray_key)):
        return found.conclude(
            "model",
            "Give every parameter a proper prior, or check that the data identify it.",
            f"the target's mass does not end along {rays} of the rays tried, outwards or towards zero, as "
            f"far as floats "
            "reach: there is no posterior to approximate.",
        )
    converged = _optimizer(case, train_key, found)
    return found if converged is False else _family(case, where, converged, found)


def _not_numbers(case: Case, prior: PriorDraws | None, found: Finding) -> bool:
    """Whether a density that is not a number, or infinite, explains it."""
    log_p, log_q = case.draws.log_target, case.draws.log_proposal
    bad = np.isnan(log_p) | (log_p == np.inf)
    if (wrong := ~np.isfinite(log_q)).any():
        found.reliable = False
        finite = all(bool(jnp.isfinite(x).all()) for x in _floats(case.params))
        found.conclude(
            "family" if finite else "optimizer",
            "Look at the guide's parameters." if finite else "Go back to parameters that are finite.",
            f"the guide's own log density is not finite at {_percent(wrong.mean())} of its draws"
            + ("." if finite else ", and its parameters are not finite."),
        )
        return True
    if bad.any():
        found.reliable = False
        first = int(np.flatnonzero(bad)[0])
        found.conclude(
            "model",
            "Find the operation in the model that overflows or leaves its domain there.",
            f"the target's log density is not a number, or infinite, at {_percent(bad.mean())} of the "
            f"guide's draws, "
            f"first at {_shown(case.draws.choices, first)}.",
        )
        return True
    if prior is not None and (worse := ~(prior.log_weights < np.inf)).any():
        found.reliable = None if found.reliable else found.reliable
        found.conclude(
            "model",
            "Find the operation in the model that overflows or leaves its domain there.",
            f"the model's own log density is not a number, or infinite, at {_percent(worse.mean())} of its "
            f"prior's "
            "draws.",
        )
        return True
    return False


def _missed(case: Case, prior: PriorDraws | None, found: Finding) -> bool:
    """Whether draws of the prior find mass that the guide does not cover."""
    if prior is None:
        return _no_weight(case, None, found)
    weights = smoothed(prior.log_weights, rounding=case.draws.rounding)
    found.attempts["prior"] = weights
    if _no_weight(case, weights, found):
        return True
    outside = (prior.log_guide == -np.inf) & (prior.log_weights > -np.inf)
    share = float(np.exp(weights.log_weights)[outside].sum())
    if outside.any() and share > 1e-3:
        found.reliable = False
        found.conclude(
            "family",
            "Give the guide the support of the model's choices.",
            f"the guide cannot draw {_percent(share)} of the posterior's mass, as draws of the prior show: "
            f"its support "
            "is too small.",
        )
        return True
    if weights.khat < 0.5 or weights.status == "tied weights":
        return _smaller(case.weights, weights, found)
    return False


def _smaller(guide: Weights, prior: Weights, found: Finding) -> bool:
    """Whether draws of the prior find more evidence: the whole finding where the guide looks reliable."""
    error = math.sqrt(1 / prior.effective_draws + 1 / max(guide.effective_draws, 1.0))
    gap = prior.log_mean - guide.log_mean
    if not gap > max(5 * error, 0.05):
        return False
    share = _percent(1 - math.exp(-gap))
    found.evidence.append(
        f"the evidence is {gap:.2g} ± {error:.1g} nats larger by draws of the prior than by those of the "
        f"guide, which "
        f"miss about {share} of the posterior's mass."
    )
    if not guide.reliable:
        return False
    found.reliable = False
    found.conclude(
        "family", "Look for modes that the guide does not reach: start from elsewhere, or use a mixture."
    )
    return True


def _no_weight(case: Case, prior: Weights | None, found: Finding) -> bool:
    if case.weights.status != "no weight":
        return False
    if prior is not None and prior.status != "no weight":
        found.conclude(
            "family",
            "Move the guide to where the model's choices can lie.",
            "the target rules out every draw of the guide, but not those of the prior.",
        )
    else:
        more = ", and of the prior" if prior is not None else ""
        found.conclude(
            "model" if prior is not None else "unknown",
            "Check the observed values against the supports of the families that they are observed of.",
            f"the target rules out every draw of the guide{more}.",
        )
    return True


def _optimizer(case: Case, key: jax.Array, found: Finding) -> bool | None:
    """Whether training has converged; `False` where that explains it, `None` where it cannot be told."""
    if case.function is None:
        found.evidence.append(
            "whether training has converged cannot be told from the guide alone: give the guide as a "
            "function, and "
            "params=."
        )
        return None
    target, function = case.target, case.function
    objective = case.objective or Expectation(lambda params: elbo(target, function(params)))
    test_key, fit_key, gain_key = jax.random.split(key, 3)
    try:
        largest, limit = _gradient(objective, case.params, test_key)
        optimizer = optax.adam(optax.cosine_decay_schedule(_STEP, case.steps))
        result = fit(
            objective, case.params, optimizer, key=fit_key, steps=case.steps, num_samples=8, progress=False
        )
        gain, error = _gain(objective, case.params, result.params, gain_key)
        after = of_guide(target, function(result.params), case.key, len(case.draws.log_target)).weights
    except (PPLError, TypeError) as failure:
        words = " ".join(str(failure).split())
        found.evidence.append(f"training could not go on: {type(failure).__name__}: {words[:200]}")
        return None
    found.attempts[f"guide, {case.steps} steps on"] = after
    slope = (
        f"the gradient is {'not ' if largest > limit else ''}zero within its noise (largest entry "
        f"{largest:.1f} "
        f"standard errors, {limit:.1f} happen by chance)"
    )
    gained = f"{case.steps} more steps change the objective by {gain:+.2g} ± {error:.1g}"
    material = gain > max(_ERRORS * error, _MATERIAL)
    if material and after.reliable:
        found.conclude(
            "optimizer", "Train on.", f"{slope}.", f"{gained}, and k-hat becomes {after.khat:.2f}."
        )
        return False
    if material:
        found.conclude(
            "optimizer",
            "Train on, then ask again: whether the family is good enough cannot be told before.",
            f"{slope}.",
            f"{gained}, though k-hat is still {_khat(after)}.",
        )
        return False
    found.evidence.append(f"{slope}; {gained}: training has converged, here.")
    return True


def _gradient(objective: Expectation, params: Any, key: jax.Array) -> tuple[float, float]:
    """The largest entry of the mean gradient in standard errors, and what chance allows."""
    keys = jax.random.split(key, _GRADIENTS)
    leaves = jax.tree.leaves(jax.jit(jax.vmap(lambda key: objective.grad(key, params)))(keys))
    each = np.concatenate([np.asarray(leaf, float).reshape(_GRADIENTS, -1) for leaf in leaves], 1)
    error = each.std(0, ddof=1) / math.sqrt(_GRADIENTS)
    mean = np.abs(each.mean(0))
    # A gradient that is zero in every run is zero; one that does not vary otherwise is not.
    ratio = np.divide(mean, error, out=np.where(mean > 0, np.inf, 0.0), where=error > 0)
    limit = stats.t.isf(_RATE / (2 * each.shape[1]), _GRADIENTS - 1)
    return float(ratio.max()), float(limit)


def _gain(objective: Expectation, before: Any, after: Any, key: jax.Array) -> tuple[float, float]:
    """How much larger the objective has become, with the same keys for both, and the standard error."""
    keys = jax.random.split(key, 2000)
    values = jax.jit(
        lambda params: jax.lax.map(lambda k: objective.estimate(k, params), keys, batch_size=500)
    )
    difference = np.asarray(values(after), float) - np.asarray(values(before), float)
    return float(difference.mean()), float(difference.std(ddof=1) / math.sqrt(len(keys)))


def _family(case: Case, where: Any, converged: bool | None, found: Finding) -> Finding:
    """What the family lacks, by moving its draws."""
    cause = "family" if converged else "optimizer or family"
    elsewhere = "" if converged else " If training has not converged, train on first."
    if where is None:
        return found.conclude(
            cause,
            "Try a guide with more dependence between choices." + elsewhere,
            "what the family lacks cannot be measured: some choices are not real numbers.",
        )
    moved = matched(where, case.draws)
    found.attempts |= {f"moved to the weighted {kind}": weights for kind, weights in moved.items()}
    lacks = _lacks(case.weights, moved)
    said = ", ".join(f"{_khat(weights)} with the {kind}" for kind, weights in moved.items())
    sentence = f"moved to the importance-weighted moments, the guide has k-hat {said}"
    advice, what = {
        MEAN: ("Check that the guide can reach the mean.", "its location is wrong"),
        SCALE: (
            "Let the guide be wider, or maximize an objective that asks for it: ppl.iwelbo, ppl.forward_kl.",
            "its scales are wrong",
        ),
        COVARIANCE: (
            "Let the guide's choices depend on each other: ppl.multivariate_normal, or later choices with "
            "parameters "
            "that depend on earlier ones.",
            "it lacks the correlations",
        ),
        None: (
            "Try heavier tails (ppl.student_t), a mixture, or a transformation of the choices.",
            "no such move is enough. The shape is wrong (tails, skewness, modes), or the posterior is too "
            "far off for "
            "the guide's own draws to tell",
        ),
    }[lacks]
    return found.conclude(cause, advice + elsewhere, f"{sentence}: {what}.")


def _lacks(before: Weights, moved: dict[str, Weights]) -> str | None:
    """The last kind of move that mattered, if the moves made the weights reliable."""
    if not list(moved.values())[-1].reliable:
        return None
    last, lacks = before, None
    for kind, weights in moved.items():
        if weights.khat < last.khat - 0.1:
            lacks, last = kind, weights
    return lacks


def _floats(tree: Any) -> list[Any]:
    return [x for x in jax.tree.leaves(tree) if isinstance(x, float | jax.Array | np.ndarray)]


def _khat(weights: Weights) -> str:
    return f"{weights.khat:.2f}" if math.isfinite(weights.khat) else f"({weights.status})"


def _shown(choices: Any, index: int) -> str:
    """One draw, in short."""
    draw = jax.tree.map(lambda leaf: np.asarray(leaf[index]), choices)
    words = " ".join(np.array2string(np.asarray(x), precision=3, threshold=6) for x in jax.tree.leaves(draw))
    return words if len(words) < 80 else words[:77] + "..."


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.3g} %"
