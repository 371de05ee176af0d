"""Programs of every control flow, each with choices and their log density written out by hand.

The log density is a plain NumPy and SciPy loop in double precision: nothing of it is `ppl` or JAX.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

from ppl import bernoulli, categorical, exponential, gamma, gen, laplace, multivariate_normal, normal, poisson


class Example(NamedTuple):
    """A measure, choices for it, and the log density of any choices."""

    make: Callable[[], Any]
    choices: dict[Any, Any]
    by_hand: Callable[[Any], float]


def _n(x: Any, loc: Any = 0.0, scale: Any = 1.0) -> float:
    return float(np.sum(st.norm.logpdf(np.asarray(x, np.float64), loc, scale)))


XS = np.array([0.3, -0.7, 1.1, 0.2])
GRID = np.array([[0.1, -0.4, 0.9], [1.3, 0.2, -0.6]])


@gen
def straight(loc, rate):
    x = normal(loc, 1.2) @ "x"
    y = gamma(2.5, jnp.exp(x) * rate) @ "y"
    k = poisson(y) @ "k"
    b = bernoulli(logits=x - k) @ "b"
    return x + b


def _straight(c: Any) -> float:
    x, y, k, b = (float(c[name]) for name in "xykb")
    density = _n(x, 0.3, 1.2) + st.gamma.logpdf(y, 2.5, scale=np.exp(-x) / 1.7)
    return density + st.poisson.logpmf(k, y) + st.bernoulli.logpmf(b, 1 / (1 + np.exp(k - x)))


@gen
def pair(loc):
    a = normal(loc, 0.5) @ "a"
    return a + (laplace(a, 2.0) @ "b")


def _pair(c: Any, loc: float) -> float:
    return _n(c["a"], loc, 0.5) + float(st.laplace.logpdf(c["b"], c["a"], 2.0))


@gen
def nested(loc):
    s = pair(loc) @ "left"
    t = pair(s) @ ("deep", "right")
    return pair(t) @ ()


def _nested(c: Any) -> float:
    left, right = c["left"], c["deep"]["right"]
    s = left["a"] + left["b"]
    return _pair(left, 0.4) + _pair(right, s) + _pair(c, right["a"] + right["b"])


@gen
def jitted(loc):
    inner = jax.jit(lambda m: normal(m, 1.5) @ "x")
    return jax.jit(lambda m: inner(jnp.sin(m)) + (normal(m, 0.5) @ "y"))(loc)


@gen
def lanes(locs):
    def lane(loc):
        z = normal(0.0, 1.0) @ "z"  # the parameters do not depend on the lane
        return normal(z * loc, 0.7) @ "x"

    return jnp.sum(jax.vmap(jax.jit(lane))(locs))


@gen
def block(locs):
    return normal(locs, jnp.array([1.0, 0.5, 2.0])) @ "x"


def _chain(carry: Any, drift: Any) -> Any:
    carry = normal(0.9 * carry + drift, 0.4) @ "x"
    return carry, normal(carry, 1.0) @ "y"


def _walk(x: Any, y: Any, start: float, drifts: Any, order: Any) -> float:
    total, carry = 0.0, start
    for t in order:
        total += _n(x[t], 0.9 * carry + drifts[t], 0.4) + _n(y[t], x[t], 1.0)
        carry = x[t]
    return total


@gen
def chain(drifts):
    return jax.lax.scan(_chain, 0.5, drifts)


@gen
def backward(drifts):
    return jax.lax.scan(_chain, 0.5, drifts, reverse=True, unroll=2)


@gen
def counted(loc):
    return jax.lax.fori_loop(2, 6, lambda i, x: normal(x + 0.1 * i, 0.8) @ "x", loc)


def _counted(c: Any) -> float:
    means = [m + 0.1 * i for i, m in zip(range(2, 6), [0.5, *c["x"][:-1]], strict=True)]
    return _n(c["x"], means, 0.8)


@gen
def lanes_of_chains(drifts):
    return jax.vmap(lambda d: jax.lax.scan(_chain, 0.5, d)[0])(drifts)


@gen
def chain_of_lanes(drifts):
    def step(carry, drift):
        carry = jax.vmap(lambda c, d: normal(0.9 * c + d, 0.4) @ "x")(carry, drift)
        return carry, jnp.mean(carry)

    return jax.lax.scan(step, jnp.full(3, 0.5), drifts)


def _chain_of_lanes(c: Any) -> float:
    before = np.concatenate([np.full((1, 3), 0.5), c["x"][:-1]])
    return _n(c["x"], 0.9 * before + GRID, 0.4)


@gen
def lanes_of_lanes(grid):
    def row(values):
        shift = normal(0.0, 2.0) @ "shift"
        return jax.vmap(lambda v: normal(v + shift, 1.0) @ "x")(values)

    return jax.vmap(row, in_axes=0)(grid)


@gen
def branch(loc):
    x = normal(loc, 1.0) @ "x"
    return jax.lax.cond(x > 0, lambda: exponential(1.0 + x**2) @ "y", lambda: -x)


def _branch(c: Any) -> float:
    x, y = float(c["x"]), float(c["y"])
    return _n(x, 0.5) + (st.expon.logpdf(y, scale=1 / (1 + x**2)) if x > 0 else 0.0)


@gen
def either(loc):
    x = normal(loc, 1.0) @ "x"
    return jax.lax.cond(x > 0, lambda: normal(x, 0.5) @ "y", lambda: normal(0.0, 3.0) @ "y")


def _either(c: Any) -> float:
    return _n(c["x"], 0.5) + (_n(c["y"], c["x"], 0.5) if c["x"] > 0 else _n(c["y"], 0.0, 3.0))


@gen
def shared_address():
    k = categorical(probs=jnp.array([0.2, 0.5, 0.3])) @ "k"
    cases = [
        lambda: normal(0.0, 1.0) @ "y",
        lambda: laplace(1.0, 2.0) @ "y",
        lambda: (normal(3.0, 0.5) @ "y") + (normal(-1.0, 1.0) @ "only"),
    ]
    return jax.lax.switch(k, cases)


def _shared_address(c: Any) -> float:
    k, y = int(c["k"]), float(c["y"])
    cases = [_n(y), st.laplace.logpdf(y, 1.0, 2.0), _n(y, 3.0, 0.5) + _n(c["only"], -1.0)]
    return float(np.log([0.2, 0.5, 0.3][k]) + cases[k])


@gen
def branch_of_each_lane(xs):
    def lane(x):
        u = normal(x, 1.0) @ "u"
        return jax.lax.cond(
            u > 0, lambda: normal(u, 0.5) @ "y", lambda: (normal(0.0, 3.0) @ "y") + (laplace(u, 1.0) @ "w")
        )

    return jax.vmap(lane)(xs)


def _branch_of_each_lane(c: Any) -> float:
    total = _n(c["u"], XS)
    for u, y, w in zip(c["u"], c["y"], c["w"], strict=True):
        total += _n(y, u, 0.5) if u > 0 else _n(y, 0.0, 3.0) + float(st.laplace.logpdf(w, u))
    return total


@gen
def chain_of_branches():
    def step(on, _):
        value = jax.lax.cond(on > 0, lambda: normal(2.0, 1.0) @ "y", lambda: 0.0 * on)
        return normal(value, 1.0) @ "on", None

    return jax.lax.scan(step, 1.0, None, length=3)[0]


def _chain_of_branches(c: Any) -> float:
    total, on = 0.0, 1.0
    for y, after in zip(c["y"], c["on"], strict=True):
        total += (_n(y, 2.0) if on > 0 else 0.0) + _n(after, y if on > 0 else 0.0)
        on = after
    return total


@gen
def wrapped(loc):
    """Checkpointing and functions with derivatives of their own, around choices and holding them."""
    twice = jax.custom_jvp(lambda x: 2 * x)
    twice.defjvps(lambda t, ans, x: 2 * t)
    halved = jax.custom_vjp(lambda x: (normal(x, 1.0) @ "inside") / 2)
    halved.defvjp(lambda x: (x / 2, None), lambda _, ct: (ct / 2,))
    x = jax.checkpoint(lambda m: normal(twice(m), 1.1) @ "x")(loc)
    return normal(halved(x), 0.6) @ "y"


@gen
def vector(loc):
    x = multivariate_normal(loc, covariance_matrix=jnp.array([[1.0, 0.3], [0.3, 0.5]])) @ "x"
    return jax.vmap(lambda m: multivariate_normal(m * x, scale_tril=jnp.eye(2)) @ "y")(jnp.arange(3.0))


def _vector(c: Any) -> float:
    first = st.multivariate_normal.logpdf(c["x"], [0.5, -1.0], [[1.0, 0.3], [0.3, 0.5]])
    return float(first) + _n(c["y"], np.arange(3.0)[:, None] * c["x"])


_LINE = {"x": np.array([0.2, -0.5, 0.7, 1.0]), "y": np.array([0.1, 0.9, -1.2, 0.4])}
_SQUARE = {"x": GRID[::-1] * 0.7, "y": GRID + 0.2}

EXAMPLES: dict[str, Example] = {
    "straight": Example(lambda: straight(0.3, 1.7), {"x": 0.2, "y": 1.4, "k": 2, "b": 1}, _straight),
    "nested": Example(
        lambda: nested(0.4),
        {"left": {"a": 0.1, "b": -0.3}, "deep": {"right": {"a": 0.7, "b": 1.1}}, "a": -0.2, "b": 0.6},
        _nested,
    ),
    "jit": Example(
        lambda: jitted(0.4),
        {"x": 0.9, "y": -0.4},
        lambda c: _n(c["x"], np.sin(0.4), 1.5) + _n(c["y"], 0.4, 0.5),
    ),
    "vmap": Example(
        lambda: lanes(jnp.array(XS.tolist())),
        {"z": XS[::-1], "x": XS + 0.3},
        lambda c: _n(c["z"]) + _n(c["x"], c["z"] * XS, 0.7),
    ),
    "array_parameters": Example(
        lambda: block(jnp.array(GRID.tolist())),
        {"x": GRID[::-1]},
        lambda c: _n(c["x"], GRID, [1.0, 0.5, 2.0]),
    ),
    "scan": Example(
        lambda: chain(jnp.array(XS.tolist())), _LINE, lambda c: _walk(c["x"], c["y"], 0.5, XS, range(4))
    ),
    "scan_reverse": Example(
        lambda: backward(jnp.array(XS.tolist())),
        _LINE,
        lambda c: _walk(c["x"], c["y"], 0.5, XS, reversed(range(4))),
    ),
    "fori_loop": Example(lambda: counted(0.5), {"x": XS}, _counted),
    "vmap_of_scan": Example(
        lambda: lanes_of_chains(jnp.array(GRID.tolist())),
        _SQUARE,
        lambda c: sum(_walk(x, y, 0.5, d, range(3)) for x, y, d in zip(c["x"], c["y"], GRID, strict=True)),
    ),
    "scan_of_vmap": Example(
        lambda: chain_of_lanes(jnp.array(GRID.tolist())), {"x": GRID[::-1]}, _chain_of_lanes
    ),
    "vmap_of_vmap": Example(
        lambda: lanes_of_lanes(jnp.array(GRID.tolist())),
        {"shift": np.array([0.4, -0.8]), "x": GRID[::-1]},
        lambda c: _n(c["shift"], 0.0, 2.0) + _n(c["x"], GRID + np.asarray(c["shift"])[:, None]),
    ),
    "cond_taken": Example(lambda: branch(0.5), {"x": 0.4, "y": 0.9}, _branch),
    "cond_not_taken": Example(lambda: branch(0.5), {"x": -0.4, "y": 0.9}, _branch),
    "cond_left": Example(lambda: either(0.5), {"x": 0.4, "y": 0.9}, _either),
    "cond_right": Example(lambda: either(0.5), {"x": -0.4, "y": 0.9}, _either),
    **{
        f"switch_{k}": Example(shared_address, {"k": k, "y": 0.3, "only": -0.7}, _shared_address)
        for k in range(3)
    },
    "vmap_of_cond": Example(
        lambda: branch_of_each_lane(jnp.array(XS.tolist())),
        {"u": np.array([0.5, -0.2, 1.0, -1.5]), "y": XS, "w": XS + 0.5},
        _branch_of_each_lane,
    ),
    "scan_of_cond": Example(
        chain_of_branches, {"y": XS[:3], "on": np.array([-0.3, 0.8, 0.1])}, _chain_of_branches
    ),
    "checkpoint_and_custom_derivatives": Example(
        lambda: wrapped(0.4),
        {"x": 0.9, "inside": 0.3, "y": -0.5},
        lambda c: _n(c["x"], 0.8, 1.1) + _n(c["inside"], c["x"]) + _n(c["y"], c["inside"] / 2, 0.6),
    ),
    "vector": Example(
        lambda: vector(jnp.array([0.5, -1.0])),
        {"x": np.array([0.1, -0.6]), "y": np.array([[0.3, 0.1], [-0.2, 0.4], [1.0, -1.0]])},
        _vector,
    ),
}


def fresh(name: str) -> Example:
    """An example whose choices are arrays of its own.

    JAX 0.11 keeps a NumPy array that it met as a constant in the precision of that time, by identity.
    """
    example = EXAMPLES[name]
    return example._replace(choices=jax.tree.map(np.array, example.choices))


@pytest.fixture(params=EXAMPLES)
def example(request: pytest.FixtureRequest) -> Example:
    """Every program in turn."""
    return fresh(request.param)


@pytest.fixture
def examples() -> Callable[[str], Example]:
    """The program of a name."""
    return fresh


@pytest.fixture(params=["float32", "float64"])
def tolerance(request: pytest.FixtureRequest) -> Iterator[float]:
    """Runs the test in single and in double precision; the relative and absolute tolerance of each."""
    with jax.enable_x64(request.param == "float64"):
        yield {"float32": 1e-5, "float64": 1e-10}[request.param]
