"""Which runs make figure 7: a quick profile for two cores, a full one. Both are of five fresh seeds.

The rate of each strategy is the best of three by the bound that it reaches, which the profile `rates` finds
on seeds of its own; what else is set was chosen on seeds below 10. A start is the same for every strategy.
What is judged comes first, so that a run that is stopped has it.
"""

from __future__ import annotations

import itertools
from typing import NamedTuple

from models.air.nets import Sizes
from models.air.train import Setting

BETTER, PLATEAU, TUNING = "better start", "artifact's start", "rates"
TRIED, PRESENCE = (1e-4, 3e-4, 1e-3), 0.1
PAPER = Sizes(canvas=50, window=20, what=50, hidden=200, lstm=256)
JUDGED = ("MVD", "ENUM")
"""Strategies that a bar is on."""
OTHERS = ("REINFORCE", "hybrid", "IWELBO(2) + REINFORCE", "IWELBO(2) + MVD", "RWS(10)")
RATES = dict.fromkeys((*JUDGED, *OTHERS), 1e-3)
"""What `--profile rates` finds."""
CLOSE = {name: TRIED[1:] for name in ("MVD", "ENUM", "hybrid")}
"""Rates that came within 10 nats of each other on the first seed. Of these strategies one run in five loses
the second object by chance, so that they go on to two more seeds, and the median decides."""
TIED = {"MVD": TRIED[1:]}
"""On three seeds the medians were 0.3 nats apart, of runs that are 5 nats apart: two more."""


class Run(NamedTuple):
    """One curve."""

    experiment: str
    strategy: str
    setting: Setting
    seed: int

    @property
    def start(self) -> str:
        return "artifact" if self.experiment == PLATEAU else "pyro"


class Profile(NamedTuple):
    """What is run.

    Attributes:
        runs: the curves, in order.
        images, draws: how many images, and gradients of each, a variance is of.
        stages: the epochs of an ENUM run at which variances are taken; without any there are no checks.
        sizes: of the canvases and networks.
        train, test: how many canvases.
        workers: how many processes share the work.
    """

    runs: list[Run]
    images: int = 16
    draws: int = 256
    stages: tuple[int, ...] = (0, 4, 15)
    sizes: Sizes = Sizes()
    train: int = 4096
    test: int = 1000
    workers: int = 2

    @property
    def groups(self) -> list[list[Run]]:
        """The runs that follow one another and share a program, which is compiled once."""
        same = lambda run: (run.experiment, run.strategy, run.setting)
        return [list(runs) for _, runs in itertools.groupby(self.runs, same)]


def better(strategies: tuple[str, ...], seeds: tuple[int, ...], epochs: int) -> list[Run]:
    return [Run(BETTER, name, setting(RATES[name], epochs), seed) for name in strategies for seed in seeds]


def setting(rate: float, epochs: int) -> Setting:
    return Setting(rate, PRESENCE, 32, epochs)


def tuning(rates: dict[str, tuple[float, ...]], seeds: tuple[int, ...], epochs: int) -> list[Run]:
    return [
        Run(TUNING, name, setting(rate, epochs), seed)
        for name, tried in rates.items()
        for rate in tried
        for seed in seeds
    ]


def plateau(strategies: tuple[str, ...], seeds: tuple[int, ...], epochs: int, batch: int = 32) -> list[Run]:
    """The artifact's own rate, 1e-4 for all parameters (of RWS, 1e-3)."""
    rate = lambda name: 1e-3 if name.startswith("RWS") else 1e-4
    return [
        Run(PLATEAU, name, Setting(rate(name), 1.0, batch, epochs), seed)
        for name in strategies
        for seed in seeds
    ]


SEEDS = (10, 11, 12, 13, 14)
PROFILES = {
    "tiny": Profile(better(("MVD",), (10,), 1) + plateau(("REINFORCE",), (10,), 1), 2, 16, (0, 1)),
    "quick": Profile(  # the longest of the others first, so that two processes end together
        better(JUDGED, SEEDS, 15) + plateau(("MVD", "REINFORCE"), (10,), 120)
        + better(OTHERS[::-1], SEEDS, 15),
    ),
    "full": Profile(
        better(JUDGED, SEEDS, 30) + better(OTHERS, SEEDS[:3], 30)
        + plateau(("MVD", "REINFORCE", "ENUM"), SEEDS[:3], 120) + better(OTHERS, SEEDS[3:], 30),
    ),
    "paper": Profile(  # the size of the paper, for a GPU; one process, since each would take its whole memory
        plateau((*JUDGED, *OTHERS), SEEDS[:3], 41, batch=64),
        sizes=PAPER, train=60_000, test=10_000, workers=1,
    ),
    "rates": Profile(
        tuning(dict.fromkeys(RATES, TRIED), (0,), 30) + tuning(CLOSE, (1, 2), 30)
        + tuning(TIED, (3, 4), 30),
        stages=(),
    ),
}  # fmt: skip
