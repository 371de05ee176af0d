"""Random programs that mix all control flow with everything that moves axes about.

`program(seed)` is a function of nothing that returns many arrays. Its choices are normal, categorical or
multivariate normal; what is drawn at each does not matter here, but what depends on what. The same seed makes
the same program, however often JAX traces it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist

import ppl
from ppl.site import UNNAMED, Site, sample_p

MOST = 48
"""How many elements an array may have."""

Values = list[Any]
Operation = Callable[[np.random.Generator, Values, int], Any]
OPERATIONS: list[tuple[float, Operation]] = []


class Skip(Exception):
    """There is no operand of the right shape."""


def operation(weight: float = 1.0) -> Callable[[Operation], Operation]:
    def add(function: Operation) -> Operation:
        OPERATIONS.append((weight, function))
        return function

    return add


def program(seed: int, size: int = 7, depth: int = 2) -> Callable[[], tuple[Any, ...]]:
    """A program of about `size` operations, with bodies of control flow nested `depth` deep."""

    def run() -> tuple[Any, ...]:
        rng = np.random.default_rng(seed)
        shape = [(3,), (4,), (2, 3), (3, 2)][rng.integers(4)]
        start = jnp.asarray(rng.normal(size=shape))
        first = choice(rng, [start], depth, ["normal", "normal", "categorical"][rng.integers(3)])
        return tuple(build(int(rng.integers(2**31)), [start, first], size, depth)[1:])

    return run


def scalar_program(seed: int, size: int = 7, depth: int = 2) -> Callable[[], Any]:
    """The same, reduced to one number: some parts enter linearly, some do not."""

    def run() -> Any:
        rng = np.random.default_rng([seed, 1])
        total = jnp.zeros(())
        for value in program(seed, size, depth)():
            part = [
                value,
                jnp.sin(value),
                value * rng.normal(size=value.shape),
                jnp.cumsum(value.reshape(-1)),
            ]
            weight = float(rng.normal())
            total = total + weight * jnp.sum(part[rng.integers(4)])
        return total

    return run


def build(seed: int, start: Values, size: int, depth: int) -> Values:
    """The values there are at first, and those that random operations make of them."""
    rng = np.random.default_rng(seed)
    weights = np.array([weight for weight, _ in OPERATIONS])
    values = list(start)
    while size > 0:
        function = OPERATIONS[rng.choice(len(OPERATIONS), p=weights / weights.sum())][1]
        size -= 1
        try:
            made = function(rng, values, depth)
        except Skip:
            continue
        for value in made if isinstance(made, (list, tuple)) else [made]:
            value = jnp.asarray(value, float)
            if 0 < value.size <= MOST:
                values.append(value)
    return values


def pick(rng: np.random.Generator, values: Values, rank: int = 0, most: int = 9) -> Any:
    """One of the values, of at least this rank; late ones more likely."""
    found = [v for v in values if rank <= v.ndim <= most]
    if not found:
        raise Skip
    return found[-1 - int(rng.integers(len(found)) * rng.uniform())]


def like(rng: np.random.Generator, values: Values, shape: tuple[int, ...]) -> Any:
    """A value of this shape, made to fit if there is none."""
    same = [v for v in values if v.shape == shape]
    if same:
        return same[rng.integers(len(same))]
    value = pick(rng, values)
    if value.ndim > len(shape):
        value = jnp.sum(value, axis=tuple(range(value.ndim - len(shape))))
    if any(a not in (1, b) for a, b in zip(value.shape[::-1], shape[::-1], strict=False)):
        value = jnp.sum(value)
    return jnp.broadcast_to(value, shape)


def axis_of(rng: np.random.Generator, x: Any) -> int:
    return int(rng.integers(x.ndim))


def scalar(rng: np.random.Generator, values: Values) -> Any:
    """One number of the program."""
    x = pick(rng, values)
    if rng.uniform() < 0.4:
        return jnp.sum(x)
    return x[tuple(int(rng.integers(n)) for n in x.shape)]


# --- choices --------------------------------------------------------------------------------------


@operation(5)
def choices(rng: np.random.Generator, values: Values, depth: int) -> Any:
    family = ["normal", "normal", "normal", "categorical", "multivariate_normal"][rng.integers(5)]
    return choice(rng, values, depth, family)


def choice(rng: np.random.Generator, values: Values, depth: int, family: str) -> Any:
    x = pick(rng, values)
    if family == "categorical":
        x = x if x.ndim else jnp.stack([x, -x])
        distribution: Any = dist.Categorical(logits=jnp.tanh(x))
    elif family == "multivariate_normal":
        x = x if x.ndim else jnp.stack([x, -x])
        distribution = dist.MultivariateNormal(x, scale_tril=jnp.eye(x.shape[-1]))
    else:
        other = pick(rng, values)
        fits = all(1 in (a, b) or a == b for a, b in zip(x.shape[::-1], other.shape[::-1], strict=False))
        distribution = dist.Normal(x, 1 + other**2 if fits and rng.uniform() < 0.4 else 1.0)
    address = None if rng.uniform() < 0.5 else (f"x{rng.integers(10**9)}",)
    return jnp.asarray(chosen(family, distribution, address), float)


def chosen(family: str, distribution: Any, address: Any) -> Any:
    """One choice, as `measure @ address` makes it, without the tracing of its density: that is slow."""
    leaves, tree = jax.tree.flatten((distribution, ppl.estimators.Reinforce()))
    site = Site(
        address=address or UNNAMED, recorded=address is not None, family=family, tree=tree,
        shape=distribution.shape(), dtype=jnp.result_type(int if family == "categorical" else float),
        batch_shape=tuple(distribution.batch_shape), source="<unknown line>", score=1,
    )  # fmt: skip
    return sample_p.bind(*(jnp.asarray(leaf) for leaf in leaves), site=site)


@operation(0.5)
def inner(rng: np.random.Generator, values: Values, depth: int) -> Any:
    return ppl.expect(lambda x: jnp.sum(chosen("normal", dist.Normal(x, 1.0), ("y",))))(pick(rng, values))


# --- element by element ---------------------------------------------------------------------------


@operation(2)
def unary(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values)
    functions = [
        jnp.sin,
        jnp.tanh,
        lambda x: -x,
        lambda x: 0.5 * x,
        jnp.abs,
        jnp.floor,
        jax.lax.stop_gradient,
    ]
    functions += [lambda x: x + rng.normal(size=x.shape), jnp.square, lambda x: x.astype(int), jax.nn.relu]
    functions += [lambda x: jnp.clip(x, -1, 1), squash, lambda x: x > 0, lambda x: jnp.exp(-(x**2))]
    return functions[rng.integers(len(functions))](x)


@jax.custom_jvp
def squash(x: Any) -> Any:
    return jnp.tanh(x)


squash.defjvp(lambda primals, tangents: (squash(*primals), tangents[0] / jnp.cosh(primals[0]) ** 2))


@operation(3)
def binary(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values)
    y = like(rng, values, x.shape) if rng.uniform() < 0.7 else scalar(rng, values)
    if x.ndim and rng.uniform() < 0.2:
        y = jnp.mean(y, axis_of(rng, x), keepdims=True) if y.ndim else y.reshape((1,) * x.ndim)
    functions = [
        jnp.add,
        jnp.subtract,
        lambda x, y: jnp.tanh(x * y),
        jnp.maximum,
        lambda x, y: x / (1 + y**2),
    ]
    return functions[rng.integers(len(functions))](x, y)


@operation(1.5)
def selected(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values)
    y, z = like(rng, values, x.shape), like(rng, values, x.shape)
    which = [z > 0.2, scalar(rng, values) > 0, rng.uniform(size=x.shape) > 0.5][rng.integers(3)]
    return jnp.where(which, x, y)


@operation(0.3)
def held(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values)
    return jax.lax.optimization_barrier((x, like(rng, values, x.shape)))


# --- shapes ---------------------------------------------------------------------------------------


@operation(3)
def reshaped(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values, 1)
    axis = axis_of(rng, x)
    kind = rng.integers(6)
    if kind == 0:
        return jnp.transpose(x, rng.permutation(x.ndim).tolist())
    if kind == 1:
        return jnp.expand_dims(x, axis)
    if kind == 2:
        return jnp.squeeze(x)
    if kind == 3:
        return jnp.broadcast_to(x, (int(rng.integers(1, 4)), *x.shape))
    if kind == 4:
        return jnp.broadcast_to(jnp.expand_dims(x, axis), (*x.shape[:axis], 2, *x.shape[axis:]))
    sizes, left = [], x.size
    while left > 1:
        size = int(rng.choice([d for d in range(1, left + 1) if left % d == 0]))
        sizes, left = [*sizes, size], left // size
        if len(sizes) == 3:
            sizes[-1] *= left
            break
    return x.reshape(sizes or (1,))


@operation(4)
def cut_out(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values, 1)
    axis = axis_of(rng, x)
    size, kind = x.shape[axis], rng.integers(8)
    if kind <= 1:
        low = int(rng.integers(size))
        high = int(rng.integers(low + 1, size + 1))
        return jax.lax.slice_in_dim(x, low, high, int(rng.choice([1, 1, 2])), axis)
    if kind == 2:
        config = [(0, 0, 0)] * x.ndim
        cropped = -1 if size > 1 else 0
        config[axis] = (int(rng.integers(cropped, 3)), int(rng.integers(0, 2)), int(rng.choice([0, 0, 1])))
        return jax.lax.pad(x, scalar(rng, values) if rng.uniform() < 0.3 else 0.5, config)
    if kind == 3:
        return jnp.concatenate([x, like(rng, values, x.shape), x[:1]][: 2 + (axis == 0)], axis)
    if kind == 4:
        return jnp.stack([x, like(rng, values, x.shape)], axis)
    if kind == 5:
        return jnp.unstack(x, axis=axis)[:3]
    if kind == 6:
        return jnp.split(x, [int(rng.integers(1, size + 1))], axis)
    shifted = jax.lax.slice_in_dim(x, 1, size, 1, axis)
    return shifted - jax.lax.slice_in_dim(x, 0, size - 1, 1, axis)


@operation(2.5)
def indexed(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values, 1)
    size, kind = x.shape[0], rng.integers(10)
    number = jnp.clip(jnp.abs(scalar(rng, values)) * 3, 0, size - 1).astype(int)
    constant = int(rng.integers(size))
    if kind == 0:
        return x[rng.integers(size, size=int(rng.integers(1, 4)))]
    if kind == 1:
        return x[number]
    if kind == 2:
        return jax.lax.dynamic_slice_in_dim(x, number if rng.uniform() < 0.5 else constant, 1 + size // 2)
    if kind == 3:
        start = number if rng.uniform() < 0.5 else constant
        return jax.lax.dynamic_update_slice_in_dim(x, like(rng, values, x[:1].shape), start, 0)
    if kind == 4:
        return x.at[number].set(like(rng, values, x.shape[1:]))
    if kind == 5:
        return x.at[constant].add(like(rng, values, x.shape[1:]))
    other = pick(rng, values, 1)
    if other.ndim < 2 or other.shape[0] != size:
        other = jnp.stack([x.reshape(size, -1)[:, 0], jnp.arange(float(size))], 1)
    width = other.shape[1]
    at = jnp.clip(jnp.abs(x.reshape(size, -1)[:, 0]) * 2, 0, width - 1).astype(int)
    if kind == 6:
        return jax.vmap(lambda row, i: row[i])(other, at)
    if kind == 7:
        return jax.vmap(lambda row, i: jax.lax.dynamic_slice_in_dim(row, i, 1))(other, at)
    if kind == 8:
        return jax.vmap(lambda i: other[:, i])(at)
    index = at.reshape(size, *(1,) * (other.ndim - 1))
    return jnp.take_along_axis(other, index, 1)


# --- along an axis --------------------------------------------------------------------------------


@operation(2.5)
def reduced(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values, 1)
    functions: list[Any] = [jnp.sum, jnp.sum, jnp.mean, jnp.max, jnp.prod, jax.nn.logsumexp, jnp.argmax]
    return functions[rng.integers(7)](x, axis=axis_of(rng, x), keepdims=bool(rng.integers(2)))


@operation(2)
def cumulated(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values, 1)
    functions = [jax.lax.cumsum, jax.lax.cumsum, jax.lax.cummax, jax.lax.cummin, jax.lax.cumlogsumexp]
    functions += [lambda x, axis, reverse: jax.lax.cumprod(jnp.tanh(x), axis, reverse)]
    return functions[rng.integers(6)](x, axis_of(rng, x), reverse=bool(rng.integers(2)))


@operation(1.5)
def ordered(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values, 1)
    axis, kind = axis_of(rng, x), rng.integers(6)
    if kind == 0:
        return jnp.sort(x, axis)
    if kind == 1:
        return jnp.argsort(x, axis)
    if kind == 2:
        return jnp.flip(x, axis)
    if kind == 3:
        return jnp.roll(x, 1, axis)
    if kind == 4:
        return jax.lax.sort((x, like(rng, values, x.shape)), axis, num_keys=1)[1]
    return jax.lax.top_k(x, int(rng.integers(1, x.shape[axis] + 1)), axis=axis)[0]


@operation(1.5)
def contracted(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x, y = pick(rng, values, 1, 3), pick(rng, values, 1, 3)
    left = "abc"[: x.ndim]
    right = "".join(
        next(
            (a for a, n in zip(left, x.shape, strict=True) if n == size and rng.uniform() < 0.7), "def"[place]
        )
        for place, size in enumerate(y.shape)
    )
    if len(set(right)) < len(right):
        raise Skip
    letters = sorted({*left, *right})
    kept = [a for a in letters if rng.uniform() < 0.6]
    return jnp.einsum(
        f"{left},{right}->{''.join(rng.permutation(kept))}" if kept else f"{left},{right}->", x, y
    )


@operation(0.5)
def convolved(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values, 2, 2)
    kernel = jnp.asarray(rng.normal(size=(2, 1, 2))) if rng.uniform() < 0.5 else x.reshape(1, 1, -1)[..., :2]
    if kernel.shape[-1] != 2:
        raise Skip
    return jax.lax.conv_general_dilated(x[:, None], kernel, (1,), "SAME")


@operation(0.5)
def factored(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values, 1, 2)
    square = x[..., :, None] * x[..., None, :] + 2 * jnp.eye(x.shape[-1])
    if rng.uniform() < 0.5:
        return jnp.linalg.cholesky(square)
    return jax.scipy.linalg.solve_triangular(square, x[..., None], lower=True)


# --- control flow ---------------------------------------------------------------------------------


def body(rng: np.random.Generator, depth: int) -> Callable[..., Values]:
    """A random function of some values: all that it makes."""
    if depth == 0:
        raise Skip
    seed, size = int(rng.integers(2**31)), int(rng.integers(2, 5))
    return lambda *values: build(seed, list(values), size, depth - 1)


@operation(1.5)
def called(rng: np.random.Generator, values: Values, depth: int) -> Any:
    function, x, y = body(rng, depth), pick(rng, values), pick(rng, values)
    wrap = [jax.jit, jax.checkpoint][rng.integers(2)]
    return wrap(lambda x, y: tuple(function(x, y)[-2:]))(x, y)


@operation(1)
def called_twice(rng: np.random.Generator, values: Values, depth: int) -> Any:
    x = pick(rng, values)
    draw = jax.jit(lambda x: jnp.sin(chosen("normal", dist.Normal(jnp.cumsum(x), 1.0), None)))
    return draw(x), draw(like(rng, values, x.shape))


@operation(4)
def mapped(rng: np.random.Generator, values: Values, depth: int) -> Any:
    function, x, y = body(rng, depth), pick(rng, values, 1), pick(rng, values)
    axis, kept = axis_of(rng, x), int(rng.integers(1, 4))
    lanes = [i for i, n in enumerate(y.shape) if n == x.shape[axis]]
    axes = (axis, lanes[rng.integers(len(lanes))] if lanes and rng.uniform() < 0.6 else None)
    out = int(rng.integers(2))

    def lane(x: Any, y: Any) -> Any:
        made = function(x, y)[-kept:]
        return tuple(v if v.ndim >= out else v.reshape(1) for v in made)

    return jax.vmap(lane, axes, out)(x, y)


@operation(2)
def branched(rng: np.random.Generator, values: Values, depth: int) -> Any:
    functions, x, y = [body(rng, depth) for _ in range(2)], pick(rng, values), pick(rng, values)
    branches = [lambda x, y, f=f: like(np.random.default_rng(0), f(x, y)[::-1], x.shape) for f in functions]
    if rng.uniform() < 0.4 and x.ndim:  # a predicate for each lane
        taken = like(rng, values, x.shape[:1]) > 0.1
        return jax.vmap(lambda p, x: jax.lax.cond(p, *branches, x, y))(taken, x)
    if rng.uniform() < 0.3:
        number = jnp.clip(scalar(rng, values) + 1, 0, 2).astype(int)
        return jax.lax.switch(number, [*branches, lambda x, y: x], x, y)
    return jax.lax.cond(scalar(rng, values) > 0, *branches, x, y)


@operation(5)
def scanned(rng: np.random.Generator, values: Values, depth: int) -> Any:
    function, xs, const = body(rng, depth), pick(rng, values, 1), pick(rng, values)
    start = pick(rng, values)
    more = [v for v in values if v.ndim and v.shape[0] == xs.shape[0]]
    others = more[rng.integers(len(more))]
    kind, shape, kept = rng.integers(4), start.shape, int(rng.integers(1, 4))
    second = like(rng, values, xs.shape[1:])

    def step(carry: Any, x: Any) -> Any:
        (z, before), (x, other) = carry, x
        made = function(z, x, other, before, const)
        new = like(np.random.default_rng(1), made[:4:-1] or [x], shape)
        new = [new, z + new, 0.5 * z + new, z][kind]
        return (new, x), (tuple(made[-kept:]), new, before)

    if rng.uniform() < 0.2:
        step = jax.checkpoint(step)
    (last, _), (made, chain, _) = jax.lax.scan(
        step, (start, second), (xs, others), reverse=bool(rng.integers(2))
    )
    return [*made, chain, last]


@operation(1)
def counted(rng: np.random.Generator, values: Values, depth: int) -> Any:
    function, xs, start = body(rng, depth), pick(rng, values, 1), pick(rng, values)

    def step(i: Any, z: Any) -> Any:
        return 0.5 * z + like(np.random.default_rng(2), function(xs[i], z)[::-1], z.shape)

    return jax.lax.fori_loop(0, xs.shape[0], step, start)


@operation(1)
def looped(rng: np.random.Generator, values: Values, depth: int) -> Any:
    function, x, start = body(rng, depth), pick(rng, values), pick(rng, values)
    limit = scalar(rng, values)

    def step(state: Any) -> Any:
        i, z, _ = state
        return i + 1, jnp.tanh(like(np.random.default_rng(3), function(z, x)[::-1], z.shape)), z

    going = lambda state: (state[0] < 3) & (jnp.sum(state[1]) + limit > -0.5 * state[0])
    return jax.lax.while_loop(going, step, (jnp.asarray(0), start, jnp.zeros_like(start)))[1:]
