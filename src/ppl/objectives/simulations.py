"""What objectives over simulations share: a model's draw, as data and the rest."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

import jax

from ppl.choices import Choices
from ppl.given import selected
from ppl.measure import Measure

Addresses = str | Iterable[str | tuple[str, ...]]
Inverse = Callable[[Choices], Measure]
"""The guide of data: a measure over the rest of a model's choices."""


class Simulation(NamedTuple):
    """A draw of a model, its log density, and the guide of its data."""

    data: Choices
    latents: Choices
    log_density: jax.Array
    guide: Measure


def simulation(model: Measure, guide: Inverse, observed: Addresses, objective: str) -> Simulation:
    """Inside a program: draw the model, and take what is observed of it to the guide.

    Raises:
        UnknownAddress: the model has no choice at an address that is observed.
        TypeError: the guide is not a function that returns a measure.
    """
    addresses = (observed,) if isinstance(observed, str) else tuple(observed)
    trace = model.propose()
    data = selected(trace.choices, addresses, model, f"{objective} observes")
    latents = trace.choices.without(*addresses)
    of_data = guide(data) if callable(guide) else guide
    if not isinstance(of_data, Measure) or not callable(guide):
        raise TypeError(
            f"the guide of {objective} is a function from the observed choices to a measure over the rest, "
            f"`lambda data: guide(params, data['y'])`, got {guide!r}"
        )
    return Simulation(data, latents, trace.log_density, of_data)
