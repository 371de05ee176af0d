"""Methods on windows: one kernel for all of them, fitted by the evidence of the early windows.

The kernel is that of the Gaussian process, which is best for the baseline; every method fits its law of the
scale to it. What changes with the mixture's kernel, or with a kernel each, is shown as well.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ppl
from models.processes.scale_mixtures import generic, regression
from models.processes.scale_mixtures.conjugate import Context, log_evidence, log_evidence_given, posterior
from models.processes.scale_mixtures.forecast import Predict, scores
from models.processes.scale_mixtures.windows import EACH, LENGTH, SERIES, times, windows

OPTIMIZER = optax.adam(0.05)
HELD = optax.partition(
    {"trained": optax.adam(0.05), "held": optax.set_to_zero()},
    lambda params: {name: "held" if name in ("weight", "noise") else "trained" for name in params},
)
# The evidence has two maxima: nearly a constant and white noise, and a smooth curve and white noise.
STARTS = ({"weight": -2.0, "noise": 1.5, "scale": -2.0}, {"weight": 1.5, "noise": 4.0, "scale": -4.5})
FOLDS = 4
LARGE, LARGER = 1e3, 1e5
GAUSSIAN, MIXTURE = "Gaussian process", "mixture, collapsed"
SETS = ("in distribution", "late", "late / 3", "late x 3")

Table = dict[str, dict[str, float]]


class Method(NamedTuple):
    """A way to fit a law of the scale, and to predict by it.

    Attributes:
        objective: to fit by.
        predict: by what came out.
        start: parameters to start with, beside the kernel.
        every: one in so many contexts is looked at, for the difference to the Gaussian process, which is
            known for all.
    """

    objective: ppl.Expectation
    predict: Predict
    start: dict[str, float]
    every: int = 1


def _gaussian(params: Any, seen: Context, key: jax.Array) -> Any:
    return lambda block: log_evidence_given(jnp.exp(params["scale"]), block)


def _mixture(params: Any, seen: Context, key: jax.Array) -> Any:
    """A predictive density is the evidence under the posterior."""
    return partial(log_evidence, posterior(regression.prior_scale(params), seen))


def _burr(params: Any, seen: Context, key: jax.Array) -> Any:
    """By weighted draws; what proposes is fitted to the windows like the law itself."""
    law, number, quadratic = regression.burr(params), seen.whitened.shape[1], seen.quadratic[0]
    near = generic.conjugate(generic.near(law), number, quadratic)
    found = generic.scales(law, number, quadratic, generic.defensive(law, near), key)
    return partial(generic.log_predictive, found)


METHODS = {
    GAUSSIAN: Method(regression.gaussian_process, _gaussian, {}),
    MIXTURE: Method(regression.evidence, _mixture, {"concentration": 1.0}),
    "mixture, ELBO": Method(regression.implicit, _mixture, {"concentration": 1.0}),
    "mixture, ELBO by scores": Method(regression.scored, _mixture, {"concentration": 1.0}),
    "mixture, marginal": Method(regression.weighted, _mixture, {"concentration": 1.0}),
    "mixture of Burr XII": Method(regression.weighted_burr, _burr, {"power": 0.7, "tail": 0.0}, every=29),
}


class Fitted(NamedTuple):
    """What one fold left: parameters by method with one kernel, and those with a kernel each."""

    shared: dict[str, Any]
    own: dict[str, Any]
    swapped: dict[str, Any]


class Run(NamedTuple):
    """Rows of figures, and what the first fold left."""

    rows: Table
    fitted: Fitted


class Fit(NamedTuple):
    """How long to train."""

    key: jax.Array
    steps: int
    progress: bool

    def __call__(self, name: str, y: np.ndarray, start: dict[str, Any], held: bool) -> Any:
        """Parameters fitted to windows; the kernel is `held`, or fitted with the rest."""
        method, data = METHODS[name], inputs(y)
        params = regression.initial(LENGTH, **method.start | start)
        return ppl.fit(
            method.objective,
            params,
            HELD if held else OPTIMIZER,
            key=self.key,
            steps=self.steps,
            data=data,
            progress=self.progress,
        ).params


def inputs(y: np.ndarray) -> dict[str, jax.Array]:
    return {"y": jnp.asarray(y), "x": jnp.broadcast_to(times(), (len(y), LENGTH, 1))}


def own(fit: Fit, name: str, y: np.ndarray) -> Any:
    """With a kernel of its own: of both maxima, that of more evidence, which is exact for these methods."""
    found = [fit(name, y, start, held=False) for start in STARTS]
    return max(found, key=lambda params: float(METHODS[name].objective.estimate(fit.key, params, inputs(y))))


def fold(fit: Fit, y: np.ndarray, methods: Sequence[str]) -> Fitted:
    """All methods on these windows."""
    each = {name: own(fit, name, y) for name in (GAUSSIAN, MIXTURE)}
    given = lambda params: {name: params[name] for name in ("weight", "noise", "scale")}
    shared = {GAUSSIAN: each[GAUSSIAN]}
    for name in methods:
        if name != GAUSSIAN:
            shared[name] = fit(name, y, given(each[GAUSSIAN]), held=True)
    swapped = {GAUSSIAN: fit(GAUSSIAN, y, given(each[MIXTURE]), held=True), MIXTURE: each[MIXTURE]}
    return Fitted(shared, each, swapped)


def run(
    seed: int, steps: int, folds: int, progress: bool, methods: Sequence[str] = tuple(METHODS), every: int = 1
) -> Run:
    """Each method on every fold of the early windows; a fold is held out, and what is left is fitted."""
    early, late = windows()
    order = np.random.default_rng(seed).permutation(len(early))
    fits: list[Fitted] = []
    found: dict[str, list[np.ndarray]] = {}
    held = [order[number::FOLDS] for number in range(folds)]
    for number, rows in enumerate(held):
        fit = Fit(jax.random.fold_in(jax.random.key(seed), number), steps, progress)
        fits.append(fold(fit, np.delete(early, rows, axis=0), methods))
        y = np.concatenate([early[rows], late, late / 3, late * 3])
        for name, each in _judged(fits[-1], y, every).items():
            found.setdefault(name, []).append(each)
    by_window = {name: _by_window(some, held) for name, some in found.items()}
    rows = {name: _row(by_window[name]) for name in (*methods, *ABLATIONS)}
    rows |= _gains(by_window) | _fitted(fits)
    for name in {"mixture, ELBO", "mixture, ELBO by scores"} & set(methods):
        trained = fits[0].shared[name]
        start = regression.initial(LENGTH, **METHODS[name].start | _kernel(trained))
        for when, params in (("at first", start), ("trained", trained)):
            rows[name][f"gradient s.d., {when}"] = gradient_spread(METHODS[name], params, early, fit.key)
    return Run(rows, fits[0])


ABLATIONS = {f"ablation: a = {a:g}": a for a in (LARGE, LARGER)}


def _kernel(params: Any) -> dict[str, Any]:
    return {name: params[name] for name in ("weight", "noise", "scale")}


def _judged(fitted: Fitted, y: np.ndarray, every: int) -> dict[str, np.ndarray]:
    """Scores of everything; an ablation has the Gaussian process's b / a."""
    baseline = fitted.shared[GAUSSIAN]
    found = {GAUSSIAN: scores(_gaussian, baseline, y, every)}
    for name, params in fitted.shared.items():
        method = METHODS[name]
        each = scores(method.predict, params, y, every * method.every)
        if method.every > 1:
            each += found[GAUSSIAN] - scores(_gaussian, baseline, y, every * method.every)
        found[name] = each
    for name, a in ABLATIONS.items():
        found[name] = scores(_mixture, baseline | {"concentration": np.log(a)}, y, every)
    for kind, some in (("own", fitted.own), ("swapped", fitted.swapped)):
        for name, params in some.items():
            found[f"{kind}: {name}"] = scores(METHODS[name].predict, params, y, every)
    return found


def _by_window(found: list[np.ndarray], held: list[np.ndarray]) -> dict[str, np.ndarray]:
    """By set, (windows, protocols, readings): early windows once each, late ones by the mean over folds."""
    sizes = np.cumsum([len(held[0]), *[len(SERIES) * EACH] * 2])
    parts = [np.split(each, sizes) for each in found]
    early = np.concatenate([part[0] for part in parts])[np.argsort(np.concatenate(held))]
    return dict(
        zip(SETS, [early, *(np.mean([part[i] for part in parts], 0) for i in (1, 2, 3))], strict=True)
    )


def _row(by_set: dict[str, np.ndarray]) -> dict[str, float]:
    return {name: float(each[:, 0, 0].mean()) for name, each in by_set.items()}


GAINS = {
    "gain": ("", 0, 0),
    "gain, one by one": ("", 0, 1),
    "gain, first quarters": ("", 1, 0),
    "gain, first quarters, one by one": ("", 1, 1),
    "gain, mixture's kernel": ("swapped: ", 0, 0),
    "gain, mixture's kernel, first quarters": ("swapped: ", 1, 0),
    "gain, a kernel each": ("own: ", 0, 0),
    "gain, a kernel each, first quarters": ("own: ", 1, 0),
}
"""Rows: whose kernel, which protocol, which reading."""


def _gains(by_window: Any) -> Table:
    """The mixture above the Gaussian process; with errors of the mean, over windows and over series."""
    rows: Table = {}
    for name, (kind, protocol, reading) in GAINS.items():
        ours, baseline = by_window[kind + MIXTURE], by_window[kind + GAUSSIAN]
        each = {column: (ours[column] - baseline[column])[:, protocol, reading] for column in SETS}
        rows[name] = {column: float(some.mean()) for column, some in each.items()}
        rows[f"{name}: s.e."] = {column: standard_error(some) for column, some in each.items()}
        if kind + name[6:] in ("", "first quarters"):
            rows[f"{name}: s.e., series"] = {
                column: standard_error(some.reshape(len(SERIES), EACH).mean(1))
                for column, some in each.items()
                if len(some) == len(SERIES) * EACH
            }
    return rows


def standard_error(each: np.ndarray) -> float:
    return float(each.std(ddof=1) / len(each) ** 0.5)


def _fitted(fits: list[Fitted]) -> Table:
    """Parameters, by their geometric mean over folds; of Burr's law b / a is the factor of the scale."""
    rows: Table = {}
    names = {
        "weight": "s_w",
        "noise": "noise",
        "scale": "b / a",
        "concentration": "a",
        "power": "c",
        "tail": "d",
    }
    for kind, some in (("", "shared"), ("a kernel of its own, ", "own")):
        for method in getattr(fits[0], some):
            params = [getattr(each, some)[method] for each in fits]
            if (kind, method) != ("a kernel of its own, ", GAUSSIAN):
                rows[f"fitted: {kind}{method}"] = {
                    text: float(np.exp(np.mean([each[name] for each in params])))
                    for name, text in names.items() if name in params[0]
                }  # fmt: skip
    return rows


def gradient_spread(method: Method, params: Any, y: np.ndarray, key: jax.Array, draws: int = 64) -> float:
    """The root of the summed variances of the derivatives in the guide's parameters."""
    grads = _gradients(method.objective, params, inputs(y), jax.random.split(key, draws))
    return float(np.sqrt(sum(jnp.var(leaf) for leaf in jax.tree.leaves(grads))))


@partial(jax.jit, static_argnames=("objective",))
def _gradients(objective: ppl.Expectation, params: Any, data: Any, keys: jax.Array) -> Any:
    return jax.vmap(lambda key: objective.grad(key, params, data)["guide"])(keys)
