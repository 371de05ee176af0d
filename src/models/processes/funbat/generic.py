"""Program 2: the same model and the same guide, by stochastic gradients of the ELBO as a program.

The states of each mode are drawn backward, from the smoothed chain that the sites make of the prior; W is a
normal vector, τ gamma. All are reparameterized: the gradient passes through the draws, and from there
through the filter. The bound is that of `ppl.elbo`, written `ppl.sticking_the_landing`: the same value, and
a gradient without the guide's score, which has a third of the spread here.

Plain Adam creeps: years' sites reach precisions of 1e6 and days' are nearly singular, and along the scales of
the factors, which the data leave open, the bound is almost flat. Two things help, both of them in the
parameters and in the optimizer, not in the objective:

- Parameters are expanded by a matrix D for each mode, which multiplies its functions and divides W: the
  directions that the data leave open have coordinates of their own.
- Means also move along their gradients times the covariances of the guide, a step of natural gradients.
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jax.scipy.linalg import cho_solve, solve_triangular

import ppl
from models.common.linear_gaussian import Sites, thinned
from models.processes.funbat.conjugate import Fit
from models.processes.funbat.model import (
    Approximation,
    Core,
    Mode,
    guide,
    model,
    random_functions,
    ranks,
    seen_rows,
    superdiagonal,
)
from models.processes.funbat.rescaling import along
from models.processes.funbat.statistics import Entries, beliefs_of


def objective(modes: tuple[Mode, ...], data: Entries, tucker: bool = True) -> ppl.Expectation:
    """The ELBO, of the parameters in unconstrained space."""
    target = model(modes, data.index, tucker).condition({"y": data.value})
    rows = seen_rows(data.index)

    @ppl.expectation
    def bound(params):
        return ppl.sticking_the_landing(target, guide(modes, constrained(modes, rows, params)))

    return bound


def constrained(modes: tuple[Mode, ...], rows: list[np.ndarray], params: Any) -> Approximation:
    """The guide's parameters from arrays that may take any value."""
    turns = [lower(turn).T for turn in params["turns"]]
    if params["core"] is None:  # W is known, and takes no inverse
        turns = [jnp.eye(len(turn)) for turn in turns]
    sites = [_sites(*each) for each in zip(modes, rows, params["sites"], turns, strict=True)]
    core = params["core"] and Core(params["core"]["mean"], lower(params["core"]["root"]))
    if core is not None:
        for k, turn in enumerate(turns):
            # The inverse of D, transposed: lower triangular as D is upper triangular.
            whole = along(solve_triangular(turn, jnp.eye(len(turn))).T, ranks(modes), k)
            core = Core(whole @ core.mean, whole @ core.factor)
    shape = jnp.exp(params["precision"]["log_shape"])
    return Approximation(tuple(sites), core, shape, shape * jnp.exp(-params["precision"]["log_mean"]))


def _sites(mode: Mode, at: np.ndarray, site: Any, turn: jax.Array) -> Sites:
    """Sites of D u, where those of u have the target and the root of their precision in `site`."""
    root = jax.vmap(lambda r: solve_triangular(turn, r, trans=1))(lower(site["root"]))
    precision = root @ jnp.swapaxes(root, -1, -2)
    linear = jnp.einsum("tij,tj->ti", precision, site["target"] @ turn.T)
    times, rank = len(mode.prior.offset), mode.seen.shape[0]
    none = Sites(jnp.zeros((times, rank, rank)), jnp.zeros((times, rank)))
    return Sites(none.precision.at[at].set(precision), none.linear.at[at].set(linear))


def lower(root: jax.Array) -> jax.Array:
    """Lower triangular: the exponential of the diagonal scales the columns of a unit triangle."""
    unit = jnp.tril(root, -1) + jnp.eye(root.shape[-1])
    return unit * jnp.exp(jnp.diagonal(root, axis1=-2, axis2=-1))[..., None, :]


def initial(
    key: jax.Array, modes: tuple[Mode, ...], data: Entries, precision: float, tucker: bool = True
) -> Any:
    """Random functions, of no certainty to speak of, a random core, and a high precision."""
    first, second = jax.random.split(key)
    size = len(superdiagonal(modes))
    sites = []
    for at, function in zip(seen_rows(data.index), random_functions(first, modes), strict=True):
        rank = function.shape[1]
        sites.append(
            {"root": jnp.zeros((len(at), rank, rank)) + jnp.log(30.0) * jnp.eye(rank), "target": function[at]}
        )
    core = (
        {"mean": 0.3 * jax.random.normal(second, (size,)), "root": jnp.log(0.01) * jnp.eye(size)}
        if tucker
        else None
    )
    shape = jnp.log(0.5 * len(data.value))
    return {
        "sites": sites,
        "core": core,
        "turns": [jnp.zeros((rank, rank)) for rank in ranks(modes)],
        "precision": {"log_shape": shape, "log_mean": jnp.log(jnp.asarray(precision, float))},
    }


def natural() -> optax.GradientTransformation:
    """The gradients of the means times the covariances of the guide: of the sites, and of W."""

    def update(updates, state, params=None):
        assert params is not None
        sites = [_natural(*each) for each in zip(updates["sites"], params["sites"], strict=True)]
        core = updates["core"]
        if core is not None:
            root = lower(params["core"]["root"])
            core = core | {"mean": root @ (root.T @ core["mean"])}
        return updates | {"sites": sites, "core": core}, state

    return optax.GradientTransformation(lambda params: optax.EmptyState(), update)


def _natural(update: Any, site: Any) -> Any:
    solve = jax.vmap(lambda root, slope: cho_solve((root, True), slope))
    return update | {"target": solve(lower(site["root"]), update["target"])}


def _cooled(first: float, last: float, steps: int, flat: float = 0.0) -> optax.Schedule:
    """Constant for a share of the steps, then exponential."""
    return lambda step: first * (last / first) ** jnp.clip((step / steps - flat) / (1.0 - flat), 0.0, 1.0)


def _of_means(path: tuple[Any, ...]) -> bool:
    return getattr(path[-1], "key", None) in ("target", "mean")


def ascent(params: Any, steps: int) -> optax.GradientTransformation:
    """Adam for everything, each kind at its own pace, and natural steps of the means from 60 % on.

    The precision is held for the first third: weak components would collapse. Held gradients are dropped
    before Adam sees them, since it would remember their size and step too little. Adam has to step far at
    first, and at the end by less than a posterior deviation, a thousandth; natural steps are too long before
    all else has come near.
    """
    adam = lambda first, last, flat=0.0: optax.adam(_cooled(first, last, steps, flat), b2=0.99)
    after = lambda share, size: optax.scale_by_schedule(
        lambda step: jnp.where(step < share * steps, 0.0, size)
    )
    paces = {
        "mean": adam(0.3, 2e-4, 0.4),
        "root": adam(0.1, 0.02),
        "turn": adam(0.03, 0.01),
        "precision": optax.chain(after(1 / 3, 1.0), adam(0.1, 0.02)),
    }

    def pace(path: Any, _: Any) -> str:
        kind = {"turns": "turn", "precision": "precision"}.get(path[0].key, "root")
        return "mean" if _of_means(path) else kind

    labels = jax.tree_util.tree_map_with_path(pace, params)
    means = lambda tree: jax.tree_util.tree_map_with_path(lambda path, _: _of_means(path), tree)
    rest = lambda tree: jax.tree.map(lambda own: not own, means(tree))
    steady = optax.chain(
        natural(), optax.clip(0.02), after(0.6, -0.1), optax.masked(optax.set_to_zero(), rest)
    )
    return _sum(optax.partition(paces, labels), steady)


def _sum(*parts: optax.GradientTransformation) -> optax.GradientTransformation:
    """The sum of the updates of all."""

    def update(updates, states, params=None):
        pairs = [part.update(updates, state, params) for part, state in zip(parts, states, strict=True)]
        return jax.tree.map(lambda *each: sum(each), *[new for new, _ in pairs]), [s for _, s in pairs]

    return optax.GradientTransformation(lambda params: [part.init(params) for part in parts], update)


def fit(
    key: jax.Array, modes: tuple[Mode, ...], data: Entries, *, steps: int, precision: float = 1e3,
    num_samples: int = 1, tucker: bool = True, progress: bool = False,
) -> Fit:  # fmt: skip
    """Stochastic ascent from a random start.

    States at unseen indices are integrated out of the programs that are trained: given the others, guide and
    model agree on them.
    """
    first, second = jax.random.split(key)
    start = initial(first, modes, data, precision, tucker)
    rows = seen_rows(data.index)
    few = tuple(Mode(thinned(mode.prior, at), mode.seen) for mode, at in zip(modes, rows, strict=True))
    index = np.stack([np.searchsorted(at, column) for at, column in zip(rows, data.index.T, strict=True)], 1)
    result = ppl.fit(
        objective(few, data._replace(index=index), tucker), start, ascent(start, steps),
        key=second, steps=steps, num_samples=num_samples, progress=progress,
    )  # fmt: skip
    q = constrained(modes, rows, result.params)
    return Fit(q, beliefs_of(modes, q)[0], result.values)
