"""What `fit` asks of its arguments, and the errors that say so."""

from __future__ import annotations

import operator
from typing import Any

from ppl.train.minibatches import as_rows


def check_callables(objective: Any, optimizer: Any) -> None:
    """Refuses an objective without derivatives and an optimizer that is not Optax's, by `TypeError`."""
    if not callable(getattr(objective, "value_and_grad", None)):
        name = getattr(objective, "__name__", repr(objective))
        raise TypeError(
            f"fit needs an expectation, got {name} of type {type(objective).__name__}: "
            "decorate the objective with @ppl.expectation."
        )
    if not (hasattr(optimizer, "init") and hasattr(optimizer, "update")):
        raise TypeError(
            f"fit needs an Optax gradient transformation, for example optax.adam(1e-3), got {optimizer!r}."
        )


def check_data(data: Any, batch_size: int | None) -> tuple[Any, int, int | None]:
    """The data as arrays, its number of rows, and the size of a batch that is smaller than all."""
    if data is None:
        if batch_size is not None:
            raise ValueError(
                "batch_size says how many rows of data a step sees, but no data was given: pass data=."
            )
        return None, 0, None
    data, rows = as_rows(data)
    if batch_size is None:
        return data, rows, None
    batch_size = whole("batch_size", batch_size, 1)
    if batch_size > rows:
        raise ValueError(
            f"batch_size is {batch_size}, but data has {rows} rows: take at most that, or None for all rows."
        )
    return data, rows, batch_size


def whole(name: str, number: Any, least: int) -> int:
    """The number as an `int`; `TypeError` where it is not whole, `ValueError` where it is below `least`."""
    try:
        number = operator.index(number)
    except TypeError:
        raise TypeError(f"{name} is a whole number, got {number!r}.") from None
    if number < least:
        raise ValueError(f"{name} is at least {least}, got {number}.")
    return number


def one_of(name: str, value: Any, known: tuple[str, ...]) -> str:
    """The value, if it is one of those known; `ValueError` otherwise."""
    if value not in known:
        raise ValueError(f"{name} is one of {', '.join(map(repr, known))}, got {value!r}.")
    return value
