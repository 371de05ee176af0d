"""The range of a value after arithmetic with numbers, rounded as the program rounds.

A draw in unconstrained space is brought to a bounded support by `low + (high - low) * sigmoid(z)`. That it
stays there is seen by interval arithmetic: rounding is monotone, so the image of an end, computed in the
program's own dtype, bounds the images of all that lies before it.

Reference: Moore, *Interval Analysis*, 1966.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import jax.numpy as jnp
import numpy as np

from ppl.transforms.moving import Value

# Each monotone in either operand while the other is a number.
ARITHMETIC: dict[str, Callable[..., Any]] = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "div": np.divide,
    "neg": np.negative,
    "max": np.maximum,
    "min": np.minimum,
}
_UNBOUNDED = (None, None)


def arithmetic(name: str, values: Sequence[Value], dtype: Any) -> tuple[float | None, tuple[Any, Any]]:
    """The number that the result is, if the operands are numbers, and else an open interval that holds it."""
    if not jnp.issubdtype(dtype, jnp.floating):
        return None, _UNBOUNDED
    numbers = [isinstance(v.origin, float) for v in values]
    if all(numbers):
        number = _rounded(name, [v.origin for v in values], dtype)
        return (None if math.isnan(number) else number), _UNBOUNDED
    if name in ("max", "min") and any(numbers):
        return None, _clamped(name, values, numbers, dtype)
    if numbers.count(False) != 1 or (name == "div" and not numbers[1]):
        return None, _UNBOUNDED
    place = numbers.index(False)
    images = [_image(name, values, place, end, dtype) for end in values[place].bounds]
    other = next((v.origin for v, known in zip(values, numbers, strict=True) if known), -1.0)
    falls = other < 0 if name in ("mul", "div") else name == "neg" or (name == "sub" and place == 1)
    if name in ("mul", "div") and (other == 0 or not math.isfinite(other)):
        return None, _UNBOUNDED
    lower, upper = reversed(images) if falls else images
    return None, (lower, upper)


def _image(name: str, values: Sequence[Value], place: int, end: Any, dtype: Any) -> float | None:
    if not isinstance(end, float):
        return None
    found = _rounded(name, [end if i == place else v.origin for i, v in enumerate(values)], dtype)
    return found if math.isfinite(found) else None


def _clamped(name: str, values: Sequence[Value], numbers: Sequence[bool], dtype: Any) -> tuple[Any, Any]:
    """Of `max(x, c)` and `min(x, c)`, which are `c` with some probability: its neighbor bounds them."""
    place = numbers.index(False)
    (lower, upper), number = values[place].bounds, values[1 - place].origin
    if not math.isfinite(number):
        return _UNBOUNDED
    if name == "max":
        below = _rounded("next", [number, -math.inf], dtype)
        lower = max(lower, below) if isinstance(lower, float) else below
        return lower, (upper if isinstance(upper, float) and number < upper else None)
    above = _rounded("next", [number, math.inf], dtype)
    upper = min(upper, above) if isinstance(upper, float) else above
    return (lower if isinstance(lower, float) and number > lower else None), upper


def _rounded(name: str, operands: Sequence[float], dtype: Any) -> float:
    function = np.nextafter if name == "next" else ARITHMETIC[name]
    with np.errstate(all="ignore"):
        return float(function(*(np.asarray(x, dtype) for x in operands)))
