"""The order of axes: as the walk records a choice, and as a trace holds it."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ppl.transforms.occurrences import Occurrence


def raw_axes(item: Occurrence) -> list[int]:
    """Where each axis of a recorded value belongs: raw records have the loops first, then the lanes.

    A lane that lies outside of some of the loops comes before them.
    """
    loops = len(item.lengths)
    places = [float(position) for position in range(1, loops + 1)]
    places += [loops - level + 0.5 for level in item.site.levels]
    return sorted(range(len(places)), key=lambda axis: places[axis])


def to_trace(item: Occurrence, raw: Any) -> Any:
    """A recorded array with its axes in the order of a trace."""
    order = raw_axes(item)
    return jnp.transpose(raw, [*order, *range(len(order), jnp.ndim(raw))])


def from_trace(item: Occurrence, value: Any) -> Any:
    """A given array with its axes in the order of the walk."""
    order = raw_axes(item)
    inverse = [order.index(axis) for axis in range(len(order))]
    return jnp.transpose(value, [*inverse, *range(len(order), jnp.ndim(value))])


def trace_shape(item: Occurrence) -> tuple[int | None, ...]:
    """The shape of a choice as a trace holds it."""
    raw = (*item.lengths, *item.site.lanes, *item.site.shape)
    order = raw_axes(item)
    return (*(raw[axis] for axis in order), *item.site.shape)
