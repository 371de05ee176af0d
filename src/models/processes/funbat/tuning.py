"""Ranks and length scales of the photograph, by what was read of it and nothing else.

A fifth of the places that were read is held out; each setting is fitted to the rest and judged there. FunBaT
and the baseline choose among the same ranks; FunBaT has length scales besides, which a table has not.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable
from typing import NamedTuple

import jax
import numpy as np

from models.common.matern import matern, white
from models.processes.funbat import conjugate, statistics
from models.processes.funbat.data import Dataset
from models.processes.funbat.model import Mode
from models.processes.funbat.statistics import Entries

RANKS = ((3, 3, 2), (6, 6, 2), (9, 9, 3))
LENGTHS = (0.1, 0.3, 1.0)


class Choice(NamedTuple):
    """A setting: ranks of the modes, and the length scale of rows and columns; `None` for tables."""

    ranks: tuple[int, int, int]
    length: float | None


def modes_of(data: Dataset, choice: Choice, order: int = 1) -> tuple[Mode, ...]:
    """Channels have a length scale of one: there are three of them."""
    if choice.length is None:
        return tuple(
            Mode(*white(len(times), rank)) for times, rank in zip(data.times, choice.ranks, strict=True)
        )
    lengths = (choice.length, choice.length, 1.0)
    settings = zip(data.times, lengths, choice.ranks, strict=True)
    return tuple(Mode(*matern(times, length, order, rank)) for times, length, rank in settings)


def held_out(data: Dataset, seed: int, share: float = 0.2) -> tuple[Dataset, Entries]:
    """Without a share of the places, and what was read there, in all channels."""
    count = len(data.train.value) // 3  # channels one after the other, see `data.photograph`
    out = np.tile(np.random.default_rng(seed).random(count) < share, 3)
    part = lambda mask: Entries(data.train.index[mask], data.train.value[mask])
    return data._replace(train=part(~out), tests={}), part(out)


def chosen(
    data: Dataset, choices: Iterable[Choice], seed: int, sweeps: int, precision: float, progress: bool
) -> tuple[Choice, dict[Choice, float]]:
    """The choice of the least error at the places held out, and the errors of all."""
    rest, judged = held_out(data, seed)
    errors = {}
    for choice in choices:
        found = conjugate.fit(
            jax.random.key(seed), modes_of(data, choice), rest.train, sweeps=sweeps, precision=precision,
            progress=progress, label=f"photograph, choosing {choice.ranks}",
        )  # fmt: skip
        mean, _ = statistics.predict(found.beliefs, judged.index)
        errors[choice] = float(np.sqrt(np.mean((np.asarray(mean) - judged.value) ** 2)))
    return min(errors, key=lambda choice: errors[choice]), errors


def of_functions() -> list[Choice]:
    return [Choice(ranks, length) for ranks, length in itertools.product(RANKS, LENGTHS)]


def of_tables() -> list[Choice]:
    return [Choice(ranks, None) for ranks in RANKS]
