"""How each primitive moves the axes of its operands: the table of `ppl.transforms.dependence`.

A rule is `(equation, operand, output) -> (axis -> (new axis, low, high) or None)`. Element `i` of the output
along the new axis depends on the elements `i + low, ..., i + high` of the operand along the old one; `None`
where it may depend on all. A primitive that is missing mixes everything.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

Axis = Callable[[int], tuple[int, float, float] | None]
Rule = Callable[[Any, int, int], Axis]


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


def _same(axis: int) -> tuple[int, float, float]:
    return axis, 0, 0


def _elementwise(equation: Any, operand: int, output: int) -> Axis:
    """The axes of equal length; one of length one may be stretched, and a scalar meet an array."""
    return _whole(equation.invars[operand].aval.shape, equation.outvars[output].aval.shape)


def _one_to_one(equation: Any, operand: int, output: int) -> Axis:
    """Several operands and as many results, each of its own."""
    return _same if operand == output else lambda axis: None


def _without(removed: Sequence[int]) -> Axis:
    gone = set(removed)
    return lambda axis: None if axis in gone else (axis - sum(g < axis for g in gone), 0, 0)


def _reduced(equation: Any, operand: int, output: int) -> Axis:
    return _without(equation.params["axes"])


def _squeezed(equation: Any, operand: int, output: int) -> Axis:
    return _without(equation.params["dimensions"])


def _expanded(equation: Any, operand: int, output: int) -> Axis:
    kept = [a for a in range(equation.outvars[0].aval.ndim) if a not in equation.params["dimensions"]]
    return lambda axis: (kept[axis], 0, 0)


def _broadcast(equation: Any, operand: int, output: int) -> Axis:
    if operand:
        return lambda axis: None
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape
    places = equation.params["broadcast_dimensions"]
    return lambda axis: (places[axis], 0, 0) if before[axis] == after[places[axis]] else None


def _transposed(equation: Any, operand: int, output: int) -> Axis:
    order = list(equation.params["permutation"])
    return lambda axis: (order.index(axis), 0, 0)


def _reshaped(equation: Any, operand: int, output: int) -> Axis:
    """An axis stays one where as many elements lie before it, and it is as long."""
    before, after = equation.invars[0].aval.shape, equation.outvars[0].aval.shape

    def axis(a: int) -> tuple[int, float, float] | None:
        lead = math.prod(before[:a])
        same = (b for b in range(len(after)) if math.prod(after[:b]) == lead and after[b] == before[a])
        found = next(same, None)
        return None if found is None or math.prod(before) == 0 else (found, 0, 0)

    return axis


def _sliced(equation: Any, operand: int, output: int) -> Axis:
    starts, strides = equation.params["start_indices"], equation.params["strides"]

    def axis(a: int) -> tuple[int, float, float] | None:
        return (a, starts[a], starts[a]) if strides is None or strides[a] == 1 else None

    return axis


def _whole(before: Sequence[int], after: Sequence[int]) -> Axis:
    """The axes that are taken from end to end."""
    return lambda axis: (axis, 0, 0) if before[axis] == after[axis] else None


def _dynamically_sliced(equation: Any, operand: int, output: int) -> Axis:
    return _whole(equation.invars[0].aval.shape, equation.outvars[0].aval.shape)


def _updated(equation: Any, operand: int, output: int) -> Axis:
    if operand == 1:
        return _whole(equation.invars[1].aval.shape, equation.outvars[0].aval.shape)
    return _same


def _concatenated(equation: Any, operand: int, output: int) -> Axis:
    along = equation.params["dimension"]
    start = sum(v.aval.shape[along] for v in equation.invars[:operand])
    return lambda axis: (axis, -start, -start) if axis == along else (axis, 0, 0)


def _split(equation: Any, operand: int, output: int) -> Axis:
    along, start = equation.params["axis"], sum(equation.params["sizes"][:output])
    return lambda axis: (axis, start, start) if axis == along else (axis, 0, 0)


def _stacked(equation: Any, operand: int, output: int) -> Axis:
    new = equation.params["axis"]
    return lambda axis: (axis + (axis >= new), 0, 0)


def _unstacked(equation: Any, operand: int, output: int) -> Axis:
    return _without([equation.params["axis"]])


def _padded(equation: Any, operand: int, output: int) -> Axis:
    config = equation.params["padding_config"]
    return lambda axis: (axis, -config[axis][0], -config[axis][0]) if config[axis][2] == 0 else None


def _cumulated(equation: Any, operand: int, output: int) -> Axis:
    along, reverse = equation.params["axis"], equation.params["reverse"]
    low, high = (0, math.inf) if reverse else (-math.inf, 0)
    return lambda axis: (axis, low, high) if axis == along else (axis, 0, 0)


def _sorted(equation: Any, operand: int, output: int) -> Axis:
    along = equation.params["dimension"]
    return lambda axis: None if axis == along else (axis, 0, 0)


def _ranked(equation: Any, operand: int, output: int) -> Axis:
    along = equation.params.get("axis", equation.invars[0].aval.ndim - 1)
    return lambda axis: None if axis == along else (axis, 0, 0)


def _reversed(equation: Any, operand: int, output: int) -> Axis:
    along = equation.params["dimensions"]
    return lambda axis: None if axis in along else (axis, 0, 0)


def _contracted(equation: Any, operand: int, output: int) -> Axis:
    (left, right), (left_batch, right_batch) = equation.params["dimension_numbers"]
    contract, batch = ((left, left_batch), (right, right_batch))[operand]

    def free(number: int) -> list[int]:
        taken = ((left, left_batch), (right, right_batch))[number]
        return [a for a in range(equation.invars[number].aval.ndim) if a not in (*taken[0], *taken[1])]

    first = len(batch) + (len(free(0)) if operand else 0)

    def axis(a: int) -> tuple[int, float, float] | None:
        if a in batch:
            return list(batch).index(a), 0, 0
        return None if a in contract else (first + free(operand).index(a), 0, 0)

    return axis


def _convolved(equation: Any, operand: int, output: int) -> Axis:
    numbers = equation.params["dimension_numbers"]
    if equation.params["batch_group_count"] != 1 or operand == 1:
        return lambda axis: None
    return lambda axis: (numbers.out_spec[0], 0, 0) if axis == numbers.lhs_spec[0] else None


def _gathered(equation: Any, operand: int, output: int) -> Axis:
    numbers, sizes = equation.params["dimension_numbers"], equation.params["slice_sizes"]
    out = equation.outvars[0].aval.ndim
    of_indices = [a for a in range(out) if a not in numbers.offset_dims]
    batching = list(numbers.operand_batching_dims)
    skipped = (*numbers.collapsed_slice_dims, *batching)
    window = [a for a in range(equation.invars[0].aval.ndim) if a not in skipped]

    def index(a: int) -> tuple[int, float, float] | None:
        return (of_indices[a], 0, 0) if a < len(of_indices) else None

    def axis(a: int) -> tuple[int, float, float] | None:
        if a in batching:
            return index(numbers.start_indices_batching_dims[batching.index(a)])
        if a in window and sizes[a] == equation.invars[0].aval.shape[a]:
            return numbers.offset_dims[window.index(a)], 0, 0
        return None

    return index if operand else axis


def _matrices(equation: Any, operand: int, output: int) -> Axis:
    """Linear algebra on the last two axes."""
    lead = equation.invars[operand].aval.ndim - 2
    return lambda axis: (axis, 0, 0) if axis < lead else None


AXES: dict[str, Rule] = {
    **dict.fromkeys(
        words(
            "add add_any sub mul div neg exp exp2 log log1p expm1 tanh sin cos tan asin acos atan atan2 sinh "
            "cosh asinh acosh atanh sqrt rsqrt cbrt square abs sign floor ceil round is_finite max min pow "
            "integer_pow rem nextafter eq ne lt le gt ge eq_to le_to lt_to and or not xor shift_left "
            "shift_right_logical shift_right_arithmetic select_n clamp convert_element_type logistic lgamma "
            "digamma polygamma igamma igammac igamma_grad_a random_gamma_grad regularized_incomplete_beta "
            "erf erfc erf_inv bessel_i0e bessel_i1e zeta real imag conj complex copy copy_p stop_gradient "
            "name reduce_precision population_count clz log_density_of one_term undifferentiated "
            "unmoved differentiated_once held_constant"
        ),
        _elementwise,
    ),
    **dict.fromkeys(words("optimization_barrier device_put"), _one_to_one),
    **dict.fromkeys(
        words("reduce_sum reduce_max reduce_min reduce_prod reduce_and reduce_or reduce_xor argmax argmin"),
        _reduced,
    ),
    "squeeze": _squeezed,
    "expand_dims": _expanded,
    "broadcast_in_dim": _broadcast,
    "transpose": _transposed,
    "reshape": _reshaped,
    "slice": _sliced,
    "dynamic_slice": _dynamically_sliced,
    "dynamic_update_slice": _updated,
    "concatenate": _concatenated,
    "split": _split,
    "stack": _stacked,
    "unstack": _unstacked,
    "pad": _padded,
    **dict.fromkeys(words("cumsum cumprod cummax cummin cumlogsumexp"), _cumulated),
    "sort": _sorted,
    "top_k": _ranked,
    "rev": _reversed,
    "dot_general": _contracted,
    "conv_general_dilated": _convolved,
    "gather": _gathered,
    **dict.fromkeys(words("cholesky triangular_solve lu qr eigh svd"), _matrices),
}
"""The rules, by the name of the primitive."""
