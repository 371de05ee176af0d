"""The run: learned against fixed representations of a hundred digits, the limit of width, and all digits."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax

import ppl
from models.common.paper import Bar, Paper, Result, Settings
from models.processes.deep_kernel_machines import network, picture, sparse, tabular
from models.processes.deep_kernel_machines.objective import (
    LAYERS,
    Likelihood,
    alignment,
    free,
    grams_only,
    learned,
    log_volume,
    nngp_roots,
    predictions,
    relu,
    root_of,
    smallest_eigenvalue,
    value,
)

NOISE = 0.1  # of outputs with unit variance
UNIT = 0.3  # the standard deviation of a one-hot entry of ten
OPTIMIZER = optax.adam(0.02)
NUS = {"nu = 3": 3.0, "learned, nu = 1": 1.0, "nu = 0.3": 0.3, "ablation: no KL": 0.0}
OURS, BASELINE, ABLATION = "learned, nu = 1", "fixed (nu = inf)", "ablation: no KL"
UNREPLICATED = "ablation: outputs not replicated"
WIDTHS = (32, 128, 512)
SPLITS = 2  # of each table, for each seed
DRAWS, WARMUP = 150, 100  # of each Markov chain
COLUMNS = (
    "test LL", "RMSE", "accuracy", "objective", "evidence", "L at nu = 1", "alignment", "log volume",
    "eigenvalue",
)  # fmt: skip
# Points of the networks of finite width, not a hundred: a bound is short of L by a share of about P / N.
SMALL = 16
# Points and classes of the posteriors by Markov chains; classes divide the widths.
POSTERIOR_POINTS, POSTERIOR_CLASSES = 6, 4

Row = dict[str, float]


def digits(seed: int) -> tuple[np.ndarray, np.ndarray]:
    """All digits in random order, centered, with mean square one; and labels."""
    from sklearn.datasets import load_digits

    bunch = load_digits()
    order = np.random.default_rng(seed).permutation(len(bunch.data))
    images = bunch.data[order] - bunch.data.mean(axis=0)
    return images / np.sqrt(np.mean(images**2)), bunch.target[order].astype(np.int32)


def outputs(labels: np.ndarray) -> np.ndarray:
    """One-hot minus its mean, of unit variance."""
    return (np.eye(10)[labels] - 0.1) / UNIT


def task(x: np.ndarray, y: np.ndarray) -> dict[str, jax.Array]:
    return {"x": jnp.asarray(x), "y": jnp.asarray(y)}


def start(x: np.ndarray) -> dict[str, Any]:
    """At the NNGP."""
    return {"layers": [free(root) for root in nngp_roots(grams_only(jnp.asarray(x)), relu, LAYERS)]}


@partial(jax.jit, static_argnames="points")
def _scores(roots: Any, x: jax.Array, y: jax.Array, nu: jax.Array, points: int) -> Row:
    train, new = (x[:points], y[:points]), (x[points:], y[points:])
    mean, variance = predictions(roots, *train, new[0], relu, Likelihood(NOISE))
    squares = (new[1] - mean) ** 2
    logs = -0.5 * (squares / variance[:, None] + jnp.log(2 * jnp.pi * variance * UNIT**2)[:, None])
    first = grams_only(train[0])
    top = roots[-1] @ roots[-1].T
    return {
        "test LL": jnp.mean(logs),
        "RMSE": UNIT * jnp.sqrt(jnp.mean(squares)),
        "accuracy": jnp.mean(mean.argmax(axis=1) == new[1].argmax(axis=1)),
        "objective": value(roots, first, train[1], relu, nu, Likelihood(NOISE)) / points,
        "evidence": value(roots, first, train[1], relu, 0.0, Likelihood(NOISE)) / points,
        "alignment": alignment(top, train[1] @ train[1].T),
        "L at nu = 1": value(roots, first, train[1], relu, 1.0, Likelihood(NOISE)) / points,
        "log volume": log_volume(roots[-1]),
        "eigenvalue": smallest_eigenvalue(roots[-1]),
    }


def representations(
    seed: int, points: int, steps: int, progress: bool
) -> tuple[dict[str, Row], dict[str, Any]]:
    """Scores by nu, and the last Gram matrix of each."""
    x, labels = digits(seed)
    y = jnp.asarray(outputs(labels))
    begin = start(x[:points])
    roots = {BASELINE: [root_of(v) for v in begin["layers"]]}
    for name, nu in NUS.items():
        found = ppl.fit(
            learned(relu, LAYERS, nu, NOISE), begin, OPTIMIZER, key=jax.random.key(seed), steps=steps,
            data=task(x[:points], y[:points]), progress=progress,
        )  # fmt: skip
        roots[name] = [root_of(v) for v in found.params["layers"]]
    rows = {}
    for name, factors in roots.items():
        scored = _scores(factors, jnp.asarray(x), y, jnp.array(NUS.get(name, 0.0)), points)
        rows[name] = {column: float(scored[column]) for column in COLUMNS}
    order = np.argsort(labels[:points], kind="stable")
    grams = {
        name: np.asarray(factors[-1] @ factors[-1].T)[order][:, order] for name, factors in roots.items()
    }
    return rows, grams


def optimum(data: Any, steps: int, progress: bool) -> list[jax.Array]:
    """The Cholesky factors that maximize L at nu = 1."""
    objective, key = learned(relu, LAYERS, 1.0, NOISE), jax.random.key(0)  # nothing is drawn
    found = ppl.fit(
        objective, start(data["x"]), OPTIMIZER, key=key, steps=steps, data=data, progress=progress
    )
    return [root_of(v) for v in found.params["layers"]]


def finite(seed: int, widths: tuple[int, ...], points: int, steps: int, progress: bool) -> dict[str, Row]:
    """Networks of finite width, trained by their ELBO from the NNGP, beside the optimum of L."""
    x, labels = digits(seed)
    data, key = task(x[:points], outputs(labels[:points])), jax.random.key(seed)
    begin = start(data["x"])
    roots = optimum(data, steps, progress)
    best = value(roots, grams_only(data["x"]), data["y"], relu, 1.0, Likelihood(NOISE))
    limit, nngp = _grams(roots), _grams(root_of(v) for v in begin["layers"])
    kinds = [(f"width {width}", width, True) for width in widths]
    rows = {}
    for name, width, replicated in [*kinds, (UNREPLICATED, widths[-1], False)]:
        elbo = network.bound(relu, width, LAYERS, NOISE, replicated)
        found = ppl.fit(elbo, begin, OPTIMIZER, key=key, steps=steps, data=data, progress=progress).params
        grams = _grams(root_of(v) for v in found["layers"])
        rows[name] = {
            "ELBO / N": float(elbo.estimate(key, found, data, num_samples=64)),
            "L": float(best),
            "guide, to limit": _distance(grams, limit),
            "guide, to NNGP": _distance(grams, nngp),
        }
    return rows


def posteriors(seed: int, widths: tuple[int, ...], draws: int, warmup: int, progress: bool) -> dict[str, Row]:
    """Distances of the Gram matrices of networks' own posteriors from the limit, and from the NNGP."""
    x, labels = digits(seed)
    few = np.flatnonzero(labels < POSTERIOR_CLASSES)[:POSTERIOR_POINTS]
    share = 1 / POSTERIOR_CLASSES
    y = (np.eye(POSTERIOR_CLASSES)[labels[few]] - share) / np.sqrt(share * (1 - share))
    data = task(x[few], y)
    first, begin = grams_only(data["x"]), start(data["x"])
    roots = optimum(data, 600, progress)
    limit, nngp = _grams(roots), _grams(root_of(v) for v in begin["layers"])
    rows = {}
    for width in widths:
        key = jax.random.fold_in(jax.random.key(seed), width)
        drawn = network.posterior_grams(
            first.inducing, data["y"], roots, relu, width, NOISE, key, draws, warmup
        )
        means = [gram.mean(axis=0) for gram in drawn]
        rows[f"posterior, width {width}"] = {
            "draw, to limit": _distance(drawn, limit),
            "mean, to limit": _distance(means, limit),
            "mean, to NNGP": _distance(means, nngp),
        }
    return rows


def _grams(roots: Any) -> list[jax.Array]:
    return [root @ root.T for root in roots]


def _distance(grams: Any, limits: Any) -> float:
    """The mean over layers, and draws if there are several, of |G - G*| / |G*|, in Frobenius' norm."""
    norm = lambda gram: jnp.linalg.norm(gram, axis=(-2, -1))
    each = [norm(g - to) / norm(to) for g, to in zip(grams, limits, strict=True)]
    return float(np.mean(each))


def labeled(seed: int, steps: int, points: int, progress: bool) -> dict[str, Row]:
    """The sparse machine on 1,397 digits."""
    x, labels = digits(seed)
    data = {"x": x[:1397], "label": labels[:1397]}
    rows = {}
    for name, learn in (("sparse, fixed", False), ("sparse, learned", True)):
        params = sparse.fitted(data, points, learn, jax.random.key(seed), steps, progress)
        rows[name] = sparse.scores(params, x[1397:], labels[1397:])
    return rows


def run(settings: Settings) -> Result:
    """All of it in double precision."""
    quick, progress = settings.quick, settings.progress
    figures: dict[str, dict[str, list[float]]] = {}
    grams: dict[str, Any] = {}
    with jax.enable_x64(True):
        for seed in settings.seeds:
            rows, grams = representations(seed, 20 if quick else 100, 10 if quick else 300, progress)
            if not quick:
                rows |= finite(seed, WIDTHS, SMALL, 300, progress)
                rows |= posteriors(seed, WIDTHS, DRAWS, WARMUP, progress)
            rows |= labeled(seed, 5 if quick else 400, 10 if quick else 64, progress)
            for name, row in rows.items():
                for column, number in row.items():
                    figures.setdefault(name, {}).setdefault(column, []).append(number)
        splits = range(1) if quick else range(SPLITS * len(settings.seeds))
        figures |= tabular.rows(splits, 5 if quick else 150, 16 if quick else 100, progress)
    return Result(figures, bars(figures), picture.drawn(figures, grams), NOTES)


NOTES = (
    "Test log-likelihood and objective by channel and point; alignment of the last Gram with the labels';",
    "log volume and smallest eigenvalue of its correlations. Finite widths: trained guides on 16 points, and",
    "posteriors by Markov chains on 6; relative distances of Gram matrices. Tables: trained on 100 rows, in",
    "standard deviations; the noise and the scale are trained.",
)


def bars(figures: Any) -> list[Bar]:
    mean = lambda name, column: float(np.mean(figures[name][column]))
    gain = mean(OURS, "test LL") - mean(BASELINE, "test LL")
    better = 1 - mean(OURS, "RMSE") / mean(BASELINE, "RMSE")
    risen = mean(OURS, "objective") - mean(BASELINE, "objective")
    aligned = [mean(name, "alignment") for name in (BASELINE, OURS)]
    held = [
        Bar(f"test log-likelihood, learned above fixed: {gain:.3f} nats (at least 0.05)", gain >= 0.05),
        Bar(f"RMSE, learned below fixed: {100 * better:.1f} % (at least 3)", better >= 0.03),
        Bar(f"the objective rises by {risen:.2f} nats a point", risen > 0),
        Bar(
            f"alignment with the labels rises from {aligned[0]:.3f} to {aligned[1]:.3f}",
            aligned[1] > aligned[0],
        ),
        *_ablation_bars(figures),
    ]
    return held + (_width_bars(figures) if f"width {WIDTHS[-1]}" in figures else [])


def _ablation_bars(figures: Any) -> list[Bar]:
    """Without the KL the last Gram degenerates; that its test log-likelihood does not suffer is printed."""
    of = lambda column: [float(np.mean(figures[name][column])) for name in (BASELINE, OURS, ABLATION)]
    evidence, limits = of("evidence"), of("L at nu = 1")
    least = [
        float(np.exp(np.mean(np.log(figures[name]["eigenvalue"])))) for name in (BASELINE, OURS, ABLATION)
    ]
    return [
        Bar(
            f"ablation, no KL: evidence rises to {evidence[2]:.2f} (nu = 1: {evidence[1]:.2f}), and the Gram "
            f"degenerates, eigenvalue {least[2]:.0e} (nu = 1: {least[1]:.0e}, fixed: {least[0]:.0e}), 1/100",
            evidence[2] > evidence[1] and least[2] < 0.01 * min(least[:2]),
        ),
        Bar(
            f"ablation, no KL: L falls to {limits[2]:.2f} (nu = 1: {limits[1]:.2f}, fixed: {limits[0]:.2f})",
            limits[2] < limits[0] < limits[1],
        ),
    ]


def _slope(distances: list[float]) -> float:
    """In log N."""
    return float(np.polyfit(np.log(WIDTHS), np.log(distances), 1)[0])


def _width_bars(figures: Any) -> list[Bar]:
    mean = lambda name, column: float(np.mean(figures[name][column]))
    guides = [mean(f"width {width}", "guide, to limit") for width in WIDTHS]
    of = lambda column: [mean(f"posterior, width {width}", column) for width in WIDTHS]
    draws, means, to_nngp = of("draw, to limit"), of("mean, to limit"), of("mean, to NNGP")
    widest = f"width {WIDTHS[-1]}"
    gap = abs(mean(widest, "ELBO / N") / mean(widest, "L") - 1)
    back, learned_far = mean(UNREPLICATED, "guide, to NNGP"), mean(widest, "guide, to NNGP")
    return [
        Bar(
            f"trained guides approach the limit, {guides[0]:.3f}, {guides[1]:.3f}, {guides[2]:.3f} away: "
            f"slope {_slope(guides):.2f} in log N (-0.5 at least), 0.05 at most at the last",
            _slope(guides) <= -0.5 and guides[-1] <= 0.05,
        ),
        Bar(
            f"draws of the posterior approach the limit with slope {_slope(draws):.2f} in log N (-0.5 ± 0.1)",
            abs(_slope(draws) + 0.5) < 0.1,
        ),
        Bar(
            f"the posterior's mean Gram is {means[-1]:.3f} from the limit at the last width (0.03 at most), "
            f"and {to_nngp[-1]:.2f} from the NNGP (0.2 at least)",
            means[-1] <= 0.03 and to_nngp[-1] >= 0.2,
        ),
        Bar(f"ELBO / N at width {WIDTHS[-1]} is within {100 * gap:.2f} % of L (2 at most)", gap < 0.02),
        Bar(
            f"ablation, outputs not replicated: {back:.3f} from the NNGP (learned: {learned_far:.2f}), "
            "0.1 at most and less than half",
            back < 0.1 and back < 0.5 * learned_far,
        ),
    ]


PAPER = Paper(
    title="A theory of representation learning gives a deep generalisation of kernel methods",
    authors="Yang, Robeyns, Milsom, Anson, Schoots, Aitchison, 2023",
    shows="deep Gaussian processes of infinite width that learn: an objective in Gram matrices",
    time="5 minutes of processor time",
    run=run,
)
