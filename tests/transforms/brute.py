"""What depends on what in a staged program, by trying: a jaxpr in NumPy, for many *worlds* at once.

Every array has an axis of worlds in front. A choice is not drawn: its value is its own noise plus a function
of its parameters, one to one in the noise and moved by every parameter, so that a world with the noise of
one instance changed shows whatever depends on that instance, by way of later choices too.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np
import numpyro.distributions as dist
import scipy.special
from jax.extend.core import Literal

from ppl.inner import expect_p
from ppl.site import Site, sample_p
from ppl.transforms import jax_internals as internals
from ppl.transforms.naming import next_name
from ppl.transforms.occurrences import Occurrence, occurrences

TURNS = 4
"""How many steps a loop of unknown length takes at most."""

Noise = dict[Any, np.ndarray]


def shape_of(item: Occurrence) -> tuple[int, ...]:
    """Of the instances of a choice."""
    lengths = (TURNS if length is None else length for length in item.lengths)
    return (*lengths, *item.site.instances)


def event_of(item: Occurrence) -> tuple[int, ...]:
    return item.site.shape[len(item.site.batch_shape) :]


def probe(
    jaxpr: Any, rng: np.random.Generator, settings: int
) -> tuple[Noise, dict[Any, np.ndarray], np.ndarray]:
    """The noise of all worlds; for each choice, the number of the world in which each instance is changed in
    each setting, `(settings, *instances)`; and the world that it is compared with, for each world."""
    items = {item.name: item for item in occurrences(jaxpr)}
    sizes = {name: int(np.prod(shape_of(item))) for name, item in items.items()}
    count = 1 + sum(sizes.values())
    noise, worlds, first = {}, {}, 1
    for name, item in items.items():
        shape = (*shape_of(item), *event_of(item))
        base = rng.normal(size=(settings, 1, *shape))
        full = np.broadcast_to(base, (settings, count, *shape)).copy()
        for number, index in enumerate(np.ndindex(*shape_of(item))):
            full[(slice(None), first + number, *index)] = rng.normal(size=(settings, *event_of(item)))
        noise[name] = full.reshape(settings * count, *shape)
        numbers = first + np.arange(sizes[name]).reshape(shape_of(item))
        worlds[name] = np.stack([setting * count + numbers for setting in range(settings)])
        first += sizes[name]
    return noise, worlds, np.arange(settings * count) // count * count


def changed(values: np.ndarray, base: np.ndarray) -> np.ndarray:
    """For each world, which elements differ from the world that it is compared with."""
    values = values.astype(float)
    reference = values[base]
    same = (values == reference) | (np.isnan(values) & np.isnan(reference))
    with np.errstate(invalid="ignore"):
        return ~(same | (np.abs(values - reference) <= 1e-9 * (1 + np.abs(reference))))


def reached(values: np.ndarray, base: np.ndarray, worlds: np.ndarray) -> np.ndarray:
    """Which elements change with which instance in any setting, shape `(*instances, *elements)`."""
    return changed(values, base)[worlds].any(axis=0)


def covered(relations: Sequence[Any], instances: tuple[int, ...], shape: tuple[int, ...]) -> np.ndarray:
    """Which elements an instance may reach by these relations, shape `(*instances, *elements)`."""
    result = np.ones((*instances, *shape), bool)
    for axis, relation in enumerate(relations):
        if relation is None:
            continue
        place, low, high = relation
        assert 0 <= place < len(shape), f"a relation to axis {place} of {len(shape)}"
        at = np.arange(instances[axis]).reshape([-1 if n == axis else 1 for n in range(result.ndim)])
        to = np.arange(shape[place])
        to = to.reshape([-1 if n == len(instances) + place else 1 for n in range(result.ndim)])
        result = result & (to + low <= at) & (at <= to + high)
    return result


# --- evaluation -----------------------------------------------------------------------------------


class Run:
    """One evaluation: the noise of every choice, and how many worlds there are."""

    def __init__(self, noise: Noise, worlds: int) -> None:
        self.noise, self.worlds = noise, worlds
        self.count: dict[Any, int] = {}

    def full(self, x: Any) -> np.ndarray:
        """An array that is the same in all worlds."""
        return np.broadcast_to(np.asarray(x), (self.worlds, *np.shape(x)))


def evaluate(jaxpr: Any, noise: Noise, worlds: int, arguments: Sequence[np.ndarray] = ()) -> list[np.ndarray]:
    """The outputs of a jaxpr; arguments have the axis of worlds in front."""
    with np.errstate(all="ignore"):
        return _walk(jaxpr, list(arguments), Run(noise, worlds), ())


def _walk(jaxpr: Any, arguments: Sequence[Any], run: Run, steps: tuple[int, ...]) -> list[np.ndarray]:
    environment = {v: run.full(x) for v, x in zip(jaxpr.constvars, jaxpr.consts, strict=True)}
    environment.update(zip(jaxpr.invars, arguments, strict=True))

    def read(atom: Any) -> np.ndarray:
        if isinstance(atom, Literal):
            return run.full(np.asarray(atom.val, atom.aval.dtype))
        return environment[atom]

    for equation in jaxpr.eqns:
        outputs = _equation(equation, [read(v) for v in equation.invars], run, steps)
        for variable, value in zip(equation.outvars, outputs, strict=True):
            assert value.shape == (run.worlds, *variable.aval.shape), (equation, value.shape)
            environment[variable] = np.asarray(value, variable.aval.dtype)
    return [read(v) for v in jaxpr.outvars]


def _equation(equation: Any, values: list[Any], run: Run, steps: tuple[int, ...]) -> list[Any]:
    primitive, params = equation.primitive, equation.params
    if primitive is sample_p:
        return [_choose(params["site"], values, run, steps)]
    if primitive is expect_p:
        next_name(run.count, ("<expect>",))
        return [_inner(params, values)]
    if primitive in internals.CALLS:
        return _walk(params[internals.CALLS[primitive]], values, run, steps)
    if primitive is internals.REMAT:
        return _walk(params["jaxpr"], values, run, steps)
    if primitive is internals.SCAN:
        return _scan(params, values, run, steps)
    if primitive is internals.COND:
        return _cond(params["branches"], values[0], values[1:], run, steps)
    if primitive is internals.WHILE:
        return _while(params, values, run, steps)
    if primitive.name == "iota":
        shape, axis = params["shape"], params["dimension"]
        return [
            run.full(
                np.broadcast_to(
                    np.arange(shape[axis]).reshape([-1 if i == axis else 1 for i in range(len(shape))]), shape
                )
            )
        ]
    if primitive.name in _NUMPY:
        found = _NUMPY[primitive.name](*values, **params)
        return found if isinstance(found, list) else [found]
    if not values:  # which platform it is
        return [run.full(np.zeros(v.aval.shape, v.aval.dtype)) for v in equation.outvars]
    return _compiled(equation, values)


_RANKS = {
    "normal": (0, 0),
    "categorical": (1,),
    # NumPyro's order of leaves differs from process to process.
    "multivariate_normal": tuple(
        np.ndim(x) for x in jax.tree.leaves(dist.MultivariateNormal(np.zeros(1), scale_tril=np.eye(1)))
    ),
}
"""How many axes of each parameter belong to one instance."""


def _choose(site: Site, values: list[Any], run: Run, steps: tuple[int, ...]) -> Any:
    name = next_name(run.count, site.address)
    leaves = values[:-1] if site.masked else values
    event = len(site.shape) - len(site.batch_shape)
    ranks = _RANKS[site.family]
    total = run.noise[name][(slice(None), *steps)]
    for number, (leaf, rank) in enumerate(zip(leaves, ranks, strict=False)):
        own = _over_lanes(leaf, site, number)
        summed = np.sum(np.sin(own * (0.7 + 0.2 * number)), axis=tuple(range(own.ndim - rank, own.ndim)))
        batch = summed.shape[1 + len(site.lanes) :]
        missing = len(site.batch_shape) - len(batch)
        summed = summed.reshape(*summed.shape[: 1 + len(site.lanes)], *(1,) * missing, *batch, *(1,) * event)
        total = total + summed
    if site.masked:
        mask = _over_lanes(values[-1].astype(float), site, len(values) - 1)
        total = total + 0.3 * mask.reshape(*mask.shape, *(1,) * len(site.shape))
    return total.astype(int) if np.issubdtype(site.dtype, np.integer) else total


def _over_lanes(leaf: Any, site: Site, number: int) -> Any:
    carried = site.mapped[number] if site.mapped else ()
    shape, own = leaf.shape[:1], leaf.shape[1 + sum(carried) :]
    sizes = iter(leaf.shape[1:])
    return leaf.reshape(*shape, *(next(sizes) if here else 1 for here in carried), *own)


def _inner(params: Any, values: list[Any]) -> Any:
    total, lanes = 0.0, params["lanes"]
    for number, (value, mapped) in enumerate(zip(values, params["mapped"], strict=True)):
        own = np.sum(np.sin(value * (0.9 + 0.1 * number)), axis=tuple(range(1 + sum(mapped), value.ndim)))
        sizes = iter(own.shape[1:])
        total = total + own.reshape(len(own), *(next(sizes) if here else 1 for here in mapped))
    count = len(values[0])
    return np.broadcast_to(total, (count, *lanes))


def _scan(params: Any, values: list[Any], run: Run, steps: tuple[int, ...]) -> list[Any]:
    scan = internals.scan_parts(params, values)
    carry, before = scan.carry, dict(run.count)
    after, rows = before, {}
    for step in reversed(range(scan.length)) if scan.reverse else range(scan.length):
        run.count = dict(before)
        outputs = _walk(
            scan.body, [*scan.consts, *carry, *(x[:, step] for x in scan.xs)], run, (*steps, step)
        )
        carry, rows[step], after = outputs[: len(carry)], outputs[len(carry) :], run.count
    run.count = after
    avals = scan.body.out_avals[len(carry) :]
    if not rows:
        return [*carry, *(np.zeros((run.worlds, 0, *aval.shape), aval.dtype) for aval in avals)]
    return [*carry, *(np.stack([rows[t][i] for t in range(scan.length)], 1) for i in range(len(avals)))]


def _pick(index: np.ndarray, cases: Sequence[Any]) -> Any:
    """In each world, and in each lane of a mapped loop, the case that the index says."""
    return _select(index, *cases)


def _cond(branches: Any, index: Any, values: list[Any], run: Run, steps: tuple[int, ...]) -> list[Any]:
    outputs = [_walk(branch, values, run, steps) for branch in branches]
    which = np.clip(index.astype(int), 0, len(branches) - 1)
    return [_pick(which, case) for case in zip(*outputs, strict=True)]


def _while(params: Any, values: list[Any], run: Run, steps: tuple[int, ...]) -> list[Any]:
    loop = internals.while_parts(params, values)
    carry, before = loop.carry, dict(run.count)
    for step in range(TURNS + 1):
        (going,) = _walk(loop.condition, [*loop.condition_consts, *carry], run, (*steps, step))
        going = going.astype(int)
        if not going.any():
            break
        assert step < TURNS, "a loop of too many steps"
        run.count = dict(before)
        new = _walk(loop.body, [*loop.body_consts, *carry], run, (*steps, step))
        carry = [_pick(going, [old, now]) for old, now in zip(carry, new, strict=True)]
    else:
        raise AssertionError("a loop of too many steps")
    if run.count == before:  # no step was taken, but its choices count
        for item in occurrences(loop.body, run.count):
            assert item
    return carry


@functools.cache
def _function(primitive: Any, identity: Any) -> Any:
    params = identity.value

    def bind(*values: Any) -> list[Any]:
        found = primitive.bind(*values, **primitive.get_bind_params(params))
        return list(found) if primitive.multiple_results else [found]

    return jax.jit(jax.vmap(bind))


class _Params:
    """Parameters of an equation, compared by what they say."""

    def __init__(self, value: Any) -> None:
        self.value, self.text = value, str(sorted(value.items()))

    def __hash__(self) -> int:
        return hash(self.text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Params) and self.text == other.text


COMPILED: dict[str, int] = {}


def _compiled(equation: Any, values: list[Any]) -> list[Any]:
    COMPILED[equation.primitive.name] = COMPILED.get(equation.primitive.name, 0) + 1
    """By JAX, with the worlds padded to a multiple of 256, so that few shapes are compiled."""
    count = len(values[0])
    rows = np.arange(-(-count // 256) * 256) % count
    found = _function(equation.primitive, _Params(equation.params))(*(x[rows] for x in values))
    return [np.asarray(x)[:count] for x in found]


# --- primitives, the axis of worlds in front -----------------------------------------------------


def _after(axes: Any) -> tuple[int, ...]:
    return tuple(int(a) + 1 for a in axes)


def _broadcast(x: Any, shape: Any, broadcast_dimensions: Any, **_: Any) -> Any:
    kept = [1] * len(shape)
    for axis, place in enumerate(broadcast_dimensions):
        kept[place] = x.shape[axis + 1]
    return np.broadcast_to(x.reshape(len(x), *kept), (len(x), *shape))


def _slice(x: Any, start_indices: Any, limit_indices: Any, strides: Any, **_: Any) -> Any:
    steps = strides or (1,) * len(start_indices)
    parts = (slice(a, b, s) for a, b, s in zip(start_indices, limit_indices, steps, strict=True))
    return x[(slice(None), *parts)]


def _pad(x: Any, filling: Any, padding_config: Any) -> Any:
    for axis, (low, high, interior) in enumerate(padding_config, 1):
        size = x.shape[axis]
        long = size + max(size - 1, 0) * interior
        shape = (*x.shape[:axis], long, *x.shape[axis + 1 :])
        spread = np.broadcast_to(filling.reshape(-1, *(1,) * (x.ndim - 1)), shape).copy()
        spread[(*(slice(None),) * axis, slice(None, None, interior + 1))] = x
        at = np.arange(-low, long + high)
        inside = (at >= 0) & (at < long)
        taken = np.take(spread, np.clip(at, 0, max(long - 1, 0)), axis)
        inside = inside.reshape(-1, *(1,) * (x.ndim - axis - 1))
        x = np.where(inside, taken, filling.reshape(-1, *(1,) * (x.ndim - 1)))
    return x


def _select(which: Any, *cases: Any) -> Any:
    which = which.astype(int).reshape(*which.shape, *(1,) * (cases[0].ndim - which.ndim))
    found = cases[0]
    for number, case in enumerate(cases[1:], 1):
        found = np.where(which == number, case, found)
    return found


def _cumulated(function: Callable[..., Any]) -> Callable[..., Any]:
    def run(x: Any, axis: int, reverse: bool) -> Any:
        if not reverse:
            return function(x, axis=axis + 1)
        return np.flip(function(np.flip(x, axis + 1), axis=axis + 1), axis + 1)

    return run


def _sort(*operands: Any, dimension: int, num_keys: int, **_: Any) -> list[Any]:
    assert num_keys == 1
    order = np.argsort(operands[0], axis=dimension + 1, kind="stable")
    return [np.take_along_axis(x, order, dimension + 1) for x in operands]


def _top_k(x: Any, k: int, axis: int, **_: Any) -> list[Any]:
    order = np.take(np.argsort(-x, axis=axis + 1, kind="stable"), np.arange(k), axis + 1)
    return [np.take_along_axis(x, order, axis + 1), order]


def _starts(index: Sequence[Any], shape: Sequence[int], sizes: Sequence[int]) -> np.ndarray:
    return np.stack(
        [np.clip(i.astype(int), 0, n - s) for i, n, s in zip(index, shape, sizes, strict=True)], axis=1
    )


def _dynamic_slice(x: Any, *index: Any, slice_sizes: Any) -> Any:
    starts = _starts(index, x.shape[1:], slice_sizes)
    rows = (
        x[(w, *(slice(a, a + s) for a, s in zip(start, slice_sizes, strict=True)))]
        for w, start in enumerate(starts)
    )
    return np.stack(list(rows))


def _update(x: Any, new: Any, *index: Any) -> Any:
    starts, result = _starts(index, x.shape[1:], new.shape[1:]), x.copy()
    for w, start in enumerate(starts):
        result[(w, *(slice(a, a + s) for a, s in zip(start, new.shape[1:], strict=True)))] = new[w]
    return result


def _places(
    shape: Sequence[int], indices: Any, out: Sequence[int], offset: Sequence[int], skipped: Sequence[int],
    starts: Sequence[int], batching: tuple[Sequence[int], Sequence[int]], sizes: Sequence[int], clips: bool,
) -> tuple[list[Any], Any]:  # fmt: skip
    """For each element of the result of a gather, or the updates of a scatter, where it lies in the operand;
    and whether its window lies inside."""
    others = [a for a in range(len(out)) if a not in offset]
    window = [a for a in range(len(shape)) if a not in skipped]
    at = np.indices(out)
    batch = tuple(at[a] for a in others)
    places, inside = [], np.ones((len(indices), *out), bool)
    for a, size in enumerate(shape):
        place: Any = np.zeros((1, *out), int)
        if a in starts:
            place = indices[(slice(None), *batch, list(starts).index(a))].astype(int)
            place = place.reshape(len(indices), *(out if batch else (1,) * len(out)))
            inside = inside & (place >= 0) & (place <= size - sizes[a])
            place = np.clip(place, 0, size - sizes[a]) if clips else place
        if a in batching[0]:
            place = place + batch[batching[1][list(batching[0]).index(a)]]
        if a in window:
            place = place + at[offset[window.index(a)]]
        places.append(place)
    return [np.arange(len(indices)).reshape(-1, *(1,) * len(out)), *places], inside


def _gather(
    x: Any, indices: Any, *, dimension_numbers: Any, slice_sizes: Any, mode: Any, fill_value: Any, **_: Any
) -> Any:
    numbers = dimension_numbers
    skipped = (*numbers.collapsed_slice_dims, *numbers.operand_batching_dims)
    window = [slice_sizes[a] for a in range(x.ndim - 1) if a not in skipped]
    of_indices = iter(indices.shape[1:-1])
    rank = indices.ndim - 2 + len(window)
    out = [
        window[numbers.offset_dims.index(a)] if a in numbers.offset_dims else next(of_indices)
        for a in range(rank)
    ]
    places, inside = _places(
        x.shape[1:], indices, out, numbers.offset_dims, skipped, numbers.start_index_map,
        (numbers.operand_batching_dims, numbers.start_indices_batching_dims), slice_sizes, True,
    )  # fmt: skip
    found = x[tuple(places)]
    if "FILL" not in str(mode) or inside.all():
        return found
    filling = fill_value if fill_value is not None else (np.nan if x.dtype.kind == "f" else 0)
    return np.where(inside, found, filling)


def _scatter(adds: bool) -> Callable[..., Any]:
    def run(x: Any, indices: Any, updates: Any, *, dimension_numbers: Any, mode: Any, **_: Any) -> Any:
        numbers = dimension_numbers
        skipped = (*numbers.inserted_window_dims, *numbers.operand_batching_dims)
        window = iter(updates.shape[1 + a] for a in numbers.update_window_dims)
        sizes = [1 if a in skipped else next(window) for a in range(x.ndim - 1)]
        places, inside = _places(
            x.shape[1:], indices, updates.shape[1:], numbers.update_window_dims, skipped,
            numbers.scatter_dims_to_operand_dims,
            (numbers.operand_batching_dims, numbers.scatter_indices_batching_dims), sizes,
            "CLIP" in str(mode),
        )  # fmt: skip
        kept = np.broadcast_to(inside | ("FILL" not in str(mode)), updates.shape)
        at = tuple(np.broadcast_to(place, updates.shape)[kept] for place in places)
        result = np.array(x)
        if adds:
            np.add.at(result, at, updates[kept])
        else:
            result[at] = updates[kept]
        return result

    return run


def _convolve(
    x: Any, y: Any, *, window_strides: Any, padding: Any, lhs_dilation: Any, rhs_dilation: Any,
    dimension_numbers: Any, feature_group_count: int, batch_group_count: int, **_: Any,
) -> Any:  # fmt: skip
    """With one spatial axis."""
    assert (*window_strides, *lhs_dilation, *rhs_dilation) == (1, 1, 1)
    groups = feature_group_count * batch_group_count
    x = np.transpose(x, (0, *_after(dimension_numbers.lhs_spec)))
    y = np.transpose(y, (0, *_after(dimension_numbers.rhs_spec)))
    x = np.pad(x, [(0, 0), (0, 0), (0, 0), padding[0]])
    size = x.shape[-1] - y.shape[-1] + 1
    parts = np.stack([x[..., i : i + size] for i in range(y.shape[-1])], -1)
    pieces = np.split(parts, groups, 2 if batch_group_count == 1 else 1)
    kernels = np.split(y, groups, 1)
    made = [np.einsum("wnclk,wock->wnol", a, b) for a, b in zip(pieces, kernels, strict=True)]
    return np.transpose(np.concatenate(made, 2), (0, *_after(np.argsort(dimension_numbers.out_spec))))


def _triangular(a: Any, b: Any, left_side: bool, lower: bool, transpose_a: bool, **params: Any) -> Any:
    assert left_side and not params["conjugate_a"] and not params["unit_diagonal"]
    a = np.tril(a) if lower else np.triu(a)
    return np.linalg.solve(np.swapaxes(a, -1, -2) if transpose_a else a, b)


def _contract(x: Any, y: Any, dimension_numbers: Any, **_: Any) -> Any:
    (left, right), (left_batch, right_batch) = dimension_numbers
    names = iter(range(1, 50))
    one = [next(names) for _ in x.shape[1:]]
    two = [next(names) for _ in y.shape[1:]]
    for a, b in zip((*left, *left_batch), (*right, *right_batch), strict=True):
        two[b] = one[a]
    batch = [one[a] for a in left_batch]
    out = batch + [n for a, n in enumerate(one) if a not in (*left, *left_batch)]
    out += [n for b, n in enumerate(two) if b not in (*right, *right_batch)]
    return np.einsum(x, [0, *one], y, [0, *two], [0, *out])


def _split(x: Any, sizes: Any, axis: int) -> list[Any]:
    return np.split(x, np.cumsum(sizes)[:-1].astype(int), axis + 1)


def _logsumexp(x: Any, axis: int) -> Any:
    return np.logaddexp.accumulate(x, axis)


_ELEMENTWISE: dict[str, Callable[..., Any]] = {
    "add": np.add, "add_any": np.add, "sub": np.subtract, "mul": np.multiply, "neg": np.negative,
    "exp": np.exp, "log": np.log, "log1p": np.log1p, "expm1": np.expm1, "tanh": np.tanh, "sin": np.sin,
    "cos": np.cos, "cosh": np.cosh, "sqrt": np.sqrt, "square": np.square, "abs": np.abs, "sign": np.sign,
    "max": np.maximum, "min": np.minimum, "pow": np.power, "lt": np.less, "le": np.less_equal,
    "gt": np.greater, "ge": np.greater_equal, "eq": np.equal, "ne": np.not_equal, "and": np.bitwise_and,
    "or": np.bitwise_or, "not": np.invert, "is_finite": np.isfinite, "floor": np.floor,
    "logistic": scipy.special.expit, "stop_gradient": lambda x: x, "copy": lambda x: x,
    "rem": np.fmod, "name": lambda x: x, "clamp": lambda low, x, high: np.minimum(np.maximum(x, low), high),
}  # fmt: skip


def _aligned(function: Callable[..., Any]) -> Callable[..., Any]:
    """`lax` lets a scalar meet an array; and integers are divided as in C."""

    def run(*values: Any, **_: Any) -> Any:
        rank = max(x.ndim for x in values)
        return function(*(x.reshape(len(x), *(1,) * (rank - x.ndim), *x.shape[1:]) for x in values))

    return run


def _divide(x: Any, y: Any) -> Any:
    return np.divide(x, y) if x.dtype.kind == "f" else np.trunc(np.divide(x, y)).astype(x.dtype)


_NUMPY: dict[str, Callable[..., Any]] = {
    **{name: _aligned(function) for name, function in _ELEMENTWISE.items()},
    "div": _aligned(_divide),
    "integer_pow": lambda x, y: x**y if y >= 0 else 1 / x**-y,
    "convert_element_type": lambda x, new_dtype, **_: x.astype(new_dtype),
    "optimization_barrier": lambda *x: list(x),
    "broadcast_in_dim": _broadcast,
    "slice": _slice,
    "pad": _pad,
    "select_n": _select,
    "reshape": lambda x, new_sizes, **_: x.reshape(len(x), *new_sizes),
    "squeeze": lambda x, dimensions: np.squeeze(x, _after(dimensions)),
    "expand_dims": lambda x, dimensions: np.expand_dims(x, _after(dimensions)),
    "transpose": lambda x, permutation: np.transpose(x, (0, *_after(permutation))),
    "rev": lambda x, dimensions: np.flip(x, _after(dimensions)),
    "concatenate": lambda *x, dimension: np.concatenate(x, dimension + 1),
    "split": _split,
    "stack": lambda *x, axis: np.stack(x, axis + 1),
    "unstack": lambda x, axis: [np.take(x, i, axis + 1) for i in range(x.shape[axis + 1])],
    "reduce_sum": lambda x, axes, **_: np.sum(x, _after(axes)),
    "reduce_prod": lambda x, axes, **_: np.prod(x, _after(axes)),
    "reduce_max": lambda x, axes, **_: np.max(x, _after(axes)),
    "reduce_min": lambda x, axes, **_: np.min(x, _after(axes)),
    "reduce_and": lambda x, axes, **_: np.all(x, _after(axes)),
    "reduce_or": lambda x, axes, **_: np.any(x, _after(axes)),
    "argmax": lambda x, axes, **_: np.argmax(x, axes[0] + 1),
    "cumsum": _cumulated(np.cumsum),
    "cumprod": _cumulated(np.cumprod),
    "cummax": _cumulated(np.maximum.accumulate),
    "cummin": _cumulated(np.minimum.accumulate),
    "cumlogsumexp": _cumulated(_logsumexp),
    "sort": _sort,
    "top_k": _top_k,
    "dynamic_slice": _dynamic_slice,
    "dynamic_update_slice": _update,
    "dot_general": _contract,
    "gather": _gather,
    "scatter": _scatter(False),
    "scatter-add": _scatter(True),
    "conv_general_dilated": _convolve,
    "triangular_solve": _triangular,
    "argmin": lambda x, axes, **_: np.argmin(x, axes[0] + 1),
    "cholesky": lambda x, **_: np.linalg.cholesky(x),
}
