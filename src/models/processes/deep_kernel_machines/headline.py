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
from models.processes.deep_kernel_machines import network, picture, sparse
from models.processes.deep_kernel_machines.objective import (
    alignment,
    free,
    grams_only,
    learned,
    log_volume,
    nngp_roots,
    predictions,
    relu,
    root_of,
    value,
)

LAYERS = 2
NOISE = 0.1  # of outputs with unit variance
UNIT = 0.3  # the standard deviation of a one-hot entry of ten
OPTIMIZER = optax.adam(0.02)
NUS = {"nu = 3": 3.0, "learned, nu = 1": 1.0, "nu = 0.3": 0.3, "ablation: no KL": 0.0}
OURS, BASELINE, ABLATION = "learned, nu = 1", "fixed (nu = inf)", "ablation: no KL"
WIDTHS = (32, 128, 512)
DRAWS = 32  # of features, to measure their distance by
COLUMNS = ("test LL", "RMSE", "accuracy", "objective", "evidence", "L at nu = 1", "alignment", "log volume")
SMALL = 16  # points of the networks of finite width: the bound is short of L by a share of P / N

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


def task(x: np.ndarray, labels: np.ndarray, nu: float) -> dict[str, jax.Array]:
    fill = lambda number: jnp.full(len(x), number)
    return {
        "x": jnp.asarray(x),
        "y": jnp.asarray(outputs(labels)),
        "nu": fill(nu),
        "noise": fill(NOISE),
    }


def start(x: np.ndarray) -> dict[str, Any]:
    """At the NNGP."""
    return {"layers": [free(root) for root in nngp_roots(grams_only(jnp.asarray(x)), relu, LAYERS)]}


@partial(jax.jit, static_argnames="points")
def _scores(roots: Any, x: jax.Array, y: jax.Array, nu: jax.Array, points: int) -> Row:
    train, new = (x[:points], y[:points]), (x[points:], y[points:])
    mean, variance = predictions(roots, *train, new[0], relu, NOISE)
    squares = (new[1] - mean) ** 2
    logs = -0.5 * (squares / variance[:, None] + jnp.log(2 * jnp.pi * variance * UNIT**2)[:, None])
    first = grams_only(train[0])
    top = roots[-1] @ roots[-1].T
    return {
        "test LL": jnp.mean(logs),
        "RMSE": UNIT * jnp.sqrt(jnp.mean(squares)),
        "accuracy": jnp.mean(mean.argmax(axis=1) == new[1].argmax(axis=1)),
        "objective": value(roots, first, train[1], relu, nu, NOISE) / points,
        "evidence": value(roots, first, train[1], relu, 0.0, NOISE) / points,
        "alignment": alignment(top, train[1] @ train[1].T),
        "L at nu = 1": value(roots, first, train[1], relu, 1.0, NOISE) / points,
        "log volume": log_volume(roots[-1]),
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
        data = task(x[:points], labels[:points], nu)
        found = ppl.fit(
            learned, begin, OPTIMIZER, key=jax.random.key(seed), steps=steps, data=data, progress=progress
        )
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


BOUNDS = {(width, True): network.bound(relu, width, LAYERS) for width in WIDTHS}
BOUNDS[WIDTHS[-1], False] = network.bound(relu, WIDTHS[-1], LAYERS, replicated=False)


def finite(seed: int, widths: tuple[int, ...], points: int, steps: int, progress: bool) -> dict[str, Row]:
    """Networks of finite width, trained by their ELBO from the NNGP, beside the optimum of L."""
    x, labels = digits(seed)
    data, begin = task(x[:points], labels[:points], 1.0), start(x[:points])
    key = jax.random.key(seed)
    optimum = ppl.fit(learned, begin, OPTIMIZER, key=key, steps=steps, data=data, progress=progress)
    limit = [root_of(v) for v in optimum.params["layers"]]
    best = value(limit, grams_only(data["x"]), data["y"], relu, 1.0, NOISE)
    nngp = [root_of(v) @ root_of(v).T for v in begin["layers"]]
    rows = {}
    for width, replicated in BOUNDS:
        if width not in widths:
            continue
        elbo = BOUNDS[width, replicated]
        found = ppl.fit(elbo, begin, OPTIMIZER, key=key, steps=steps, data=data, progress=progress).params
        roots = [root_of(v) for v in found["layers"]]
        sampled = network.sampled_grams(roots, width, key, DRAWS)
        name = f"width {width}" if replicated else "ablation: outputs not replicated"
        rows[name] = {
            "ELBO / N": float(elbo.estimate(key, found, data, num_samples=64)),
            "L": float(best),
            "sampled, to limit": _distance(sampled, [root @ root.T for root in limit]),
            "guide, to limit": _distance([r @ r.T for r in roots], [r @ r.T for r in limit]),
            "guide, to NNGP": _distance([r @ r.T for r in roots], nngp),
        }
    return rows


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
            rows |= labeled(seed, 5 if quick else 400, 10 if quick else 64, progress)
            for name, row in rows.items():
                for column, number in row.items():
                    figures.setdefault(name, {}).setdefault(column, []).append(number)
    return Result(figures, bars(figures), picture.drawn(figures, grams), NOTES)


NOTES = (
    "Test log-likelihood and objective by channel and point; alignment of the last Gram with the labels'.",
    "Finite widths: 16 points; relative distances of Gram matrices, drawn or of the guide.",
)


def bars(figures: Any) -> list[Bar]:
    mean = lambda name, column: float(np.mean(figures[name][column]))
    gain = mean(OURS, "test LL") - mean(BASELINE, "test LL")
    better = 1 - mean(OURS, "RMSE") / mean(BASELINE, "RMSE")
    risen = mean(OURS, "objective") - mean(BASELINE, "objective")
    aligned = [mean(name, "alignment") for name in (BASELINE, OURS, ABLATION)]
    volumes = [mean(name, "log volume") for name in (BASELINE, OURS, ABLATION)]
    limits = [mean(name, "L at nu = 1") for name in (BASELINE, OURS, ABLATION)]
    evidence = [mean(name, "evidence") for name in (BASELINE, OURS, ABLATION)]
    held = [
        Bar(f"test log-likelihood, learned above fixed: {gain:.3f} nats (at least 0.05)", gain >= 0.05),
        Bar(f"RMSE, learned below fixed: {100 * better:.1f} % (at least 3)", better >= 0.03),
        Bar(f"the objective rises by {risen:.2f} nats a point", risen > 0),
        Bar(
            f"alignment with the labels rises from {aligned[0]:.3f} to {aligned[1]:.3f}",
            aligned[1] > aligned[0],
        ),
        Bar(
            f"ablation, no KL: evidence rises to {evidence[2]:.2f} (nu = 1: {evidence[1]:.2f}), and the Gram "
            f"degenerates, log volume {volumes[2]:.1f} (nu = 1: {volumes[1]:.1f}, fixed: {volumes[0]:.1f})",
            evidence[2] > evidence[1] and volumes[2] < volumes[1] - 1.0,
        ),
        Bar(
            f"ablation, no KL: L falls to {limits[2]:.2f} (nu = 1: {limits[1]:.2f}, fixed: {limits[0]:.2f})",
            limits[2] < limits[0] < limits[1],
        ),
    ]
    return held + (_width_bars(figures) if f"width {WIDTHS[-1]}" in figures else [])


def _width_bars(figures: Any) -> list[Bar]:
    mean = lambda name, column: float(np.mean(figures[name][column]))
    distances = [mean(f"width {width}", "sampled, to limit") for width in WIDTHS]
    slope = float(np.polyfit(np.log(WIDTHS), np.log(distances), 1)[0])
    widest = f"width {WIDTHS[-1]}"
    gap = abs(mean(widest, "ELBO / N") / mean(widest, "L") - 1)
    name = "ablation: outputs not replicated"
    back, learned_far = mean(name, "guide, to NNGP"), mean(widest, "guide, to NNGP")
    return [
        Bar(
            f"drawn Gram matrices approach the limit with slope {slope:.2f} in log N (-0.5 ± 0.1)",
            abs(slope + 0.5) < 0.1,
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
    time="3 minutes of processor time",
    run=run,
)
