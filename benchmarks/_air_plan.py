"""Which runs make figure 7: a quick profile for two cores, a full one of five fresh seeds.

Rates were chosen on seeds below 10; those of the profiles are fresh. A start is the same for every strategy.
"""

from __future__ import annotations

from typing import NamedTuple

from models.air.train import Setting

BETTER, PLATEAU = "better start", "artifact's start"
RATE, PRESENCE, EPOCHS = 1e-3, 0.1, 30


class Run(NamedTuple):
    """One curve."""

    experiment: str
    strategy: str
    setting: Setting
    seed: int

    @property
    def start(self) -> str:
        return "pyro" if self.experiment == BETTER else "artifact"


class Profile(NamedTuple):
    """What is run.

    Attributes:
        runs: the curves, in order.
        images, draws: how many images, and gradients of each, a variance is of.
        stages: the epochs of an ENUM run at which variances are taken.
    """

    runs: list[Run]
    images: int
    draws: int
    stages: tuple[int, ...]


def better(strategies: tuple[str, ...], seeds: tuple[int, ...], epochs: int = EPOCHS) -> list[Run]:
    # Seed by seed, so that a run that is stopped has some of each.
    return [Run(BETTER, name, setting(name, epochs), seed) for seed in seeds for name in strategies]


def setting(strategy: str, epochs: int) -> Setting:
    return Setting(RATES.get(strategy, RATE), PRESENCE, 32, epochs)


RATES: dict[str, float] = {}
"""Of strategies for which another rate is better."""


def plateau(strategies: tuple[str, ...], seeds: tuple[int, ...], epochs: int) -> list[Run]:
    """The artifact's own rate, 1e-4 for all parameters, and a batch of 32 as everywhere here."""
    return [Run(PLATEAU, name, Setting(1e-4, 1.0, 32, epochs), seed) for seed in seeds for name in strategies]


THREE = ("MVD", "ENUM", "REINFORCE")
ALL = (*THREE, "hybrid", "IWELBO(2) + MVD", "IWELBO(2) + REINFORCE", "RWS(10)")
PROFILES = {
    "tiny": Profile(
        [
            Run(BETTER, "MVD", Setting(RATE, PRESENCE, 32, 1), 10),
            Run(PLATEAU, "REINFORCE", Setting(1e-4, 1.0, 32, 1), 10),
        ],
        2, 16, (0, 1),
    ),
    "quick": Profile(
        better(THREE, (10, 11)) + plateau(("MVD", "REINFORCE"), (10,), 120), 16, 256, (0, 4, 15)
    ),
    "full": Profile(
        better(ALL, (10, 11, 12, 13, 14)) + plateau(("MVD", "ENUM", "REINFORCE"), (10, 11, 12), 120),
        16, 256, (0, 4, 15),
    ),
}  # fmt: skip
