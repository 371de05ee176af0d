"""What a paper is to the command line: one function, which returns figures, a picture and bars."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple


class Settings(NamedTuple):
    """How a paper is run.

    Attributes:
        seeds: one run each, of ours, the baseline and the ablation.
        quick: a version that is small enough for a test, and is not held to the bars.
        progress: whether training shows bars.
    """

    seeds: tuple[int, ...] = (0, 1, 2)
    quick: bool = False
    progress: bool = True


class Bar(NamedTuple):
    """What must hold of the figures, with what was found; an ablation has to fail its own."""

    text: str
    held: bool


class Result(NamedTuple):
    """What a run leaves.

    Attributes:
        figures: by row (ours, the baseline, the ablation), then by column: one number a seed.
        bars: what must hold of them.
        picture: a figure of Matplotlib, like the paper's.
        notes: lines to print below the table.
    """

    figures: Mapping[str, Mapping[str, list[float]]]
    bars: list[Bar]
    picture: Any
    notes: tuple[str, ...] = ()


class Paper(NamedTuple):
    """A paper, as a module names it `PAPER`.

    Attributes:
        title: of the paper.
        authors: and year.
        shows: the claim that a run puts to the test, in a line.
        time: what a run takes on two cores, in words.
        run: does it.
    """

    title: str
    authors: str
    shows: str
    time: str
    run: Callable[[Settings], Result]
