"""Figure 7 of "Probabilistic Programming with Programmable Variational Inference" (PLDI 2024).

Attend, infer, repeat (`src/models/air`) learns to count the digits on canvases of scikit-learn's scans,
under each objective and estimator of the presence of an object: how many seeds learn it, how well, and how
fast. Beside it: the plateau on which the score function stays at the start that the paper's code had; the
variance of the estimators at three stages; and ablations that must fail.

    python benchmarks/air.py [--profile quick|full] [--json FILE] [--report]

Every epoch is a line of JSON in FILE as soon as it is done. A run that is in FILE already is not run again,
so that what was stopped goes on; `--report` only prints the tables of what is there. The picture lies
beside it.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time
from pathlib import Path
from typing import Any

import jax.numpy as jnp
from _air_checks import ablations, empty_bound, variances
from _air_plan import BETTER, PROFILES, Profile, Run, setting
from _air_plot import picture
from _air_report import bars, report
from _timing import machine

from models.air.data import Canvases, split
from models.air.model import STARTS
from models.air.nets import Sizes
from models.air.objectives import STRATEGIES
from models.air.train import trainer

OUTPUT = Path(__file__).parent / "output"
VARIANCE_SEED = 20


class Log:
    """The lines of a file: what has been found so far."""

    def __init__(self, file: Path) -> None:
        self.file = file
        file.parent.mkdir(parents=True, exist_ok=True)
        self.lines = [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []

    def add(self, **line: Any) -> None:
        self.lines.append(json.loads(json.dumps(line)))
        with self.file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")

    def of(self, kind: str) -> list[dict[str, Any]]:
        return [line for line in self.lines if line["kind"] == kind]

    def has(self, run: Run) -> bool:
        """Whether the run is there to its end."""
        same = {"experiment": run.experiment, "strategy": run.strategy, "seed": run.seed}
        same["setting"] = list(run.setting)
        last = {"number": run.setting.epochs}
        return any(all(line[k] == v for k, v in {**same, **last}.items()) for line in self.of("epoch"))


def say(text: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {text}", flush=True)


def train(runs: list[Run], data: tuple[Canvases, Canvases], log: Log, sizes: Sizes) -> None:
    """All runs that the file has not; those that share a program share its compilation."""
    made: dict[Any, Any] = {}
    for run in runs:
        if log.has(run):
            continue
        same = (run.start, run.strategy, run.setting)
        if same not in made:
            strategy, start = STRATEGIES[run.strategy], STARTS[run.start]
            made[same] = trainer(strategy, start, data, run.setting, sizes)
        began = time.perf_counter()
        for epoch, _ in made[same](run.seed):
            wall = time.perf_counter() - began
            log.add(kind="epoch", **run._asdict(), **epoch._asdict(), wall=wall)
        say(
            f"{run.experiment}, {run.strategy}, seed {run.seed}: accuracy {epoch.accuracy:.3f}, ELBO "
            f"{epoch.elbo:.1f} after {epoch.number} epochs, {epoch.seconds:.0f} s of {wall:.0f} in training"
        )


def check(profile: Profile, data: tuple[Canvases, Canvases], log: Log, sizes: Sizes) -> None:
    """Variances along one ENUM run, and the ablations at its start."""
    if log.of("ablations"):
        return
    images = jnp.asarray(data[0].images[: profile.images])
    run = trainer(
        STRATEGIES["ENUM"], STARTS["pyro"], data, setting("ENUM", max(profile.stages)), sizes
    )  # fmt: skip
    stages = {
        trained.epoch.number: trained.params
        for trained in itertools.islice(run(VARIANCE_SEED), max(profile.stages) + 1)
        if trained.epoch.number in profile.stages
    }
    for row in variances(stages, images, profile.draws, say):
        log.add(kind="variance", **row)
    found = ablations(stages[0], images, profile.draws)
    log.add(kind="ablations", **found)
    say("ablations: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))


def main(
    profile: str = "quick", file: Path | None = None, only_report: bool = False,
    data: tuple[Canvases, Canvases] | None = None, sizes: Sizes = Sizes(),  # noqa: B008
) -> list[dict[str, Any]]:  # fmt: skip
    file = file or OUTPUT / f"air-{profile}.jsonl"
    log, began = Log(file), time.perf_counter()
    if not only_report:
        data = data or split()
        plan = PROFILES[profile]
        log.add(kind="run", date=time.strftime("%Y-%m-%d"), machine=machine(), empty=empty_bound(data[1]))
        train([run for run in plan.runs if run.experiment == BETTER], data, log, sizes)
        check(plan, data, log, sizes)
        train([run for run in plan.runs if run.experiment != BETTER], data, log, sizes)
        say(f"{(time.perf_counter() - began) / 60:.1f} minutes\n")
    print(report(log.lines))
    for text, held in bars(log.lines):
        print(f"{'held  ' if held else 'MISSED'}  {text}")
    print(f"\n{file}, {picture(log.lines, file.with_suffix('.png'))}")
    return log.lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Figure 7.")
    parser.add_argument("--profile", choices=list(PROFILES), default="quick")
    parser.add_argument("--json", dest="file", type=Path, help="where the lines go; output/ by default")
    parser.add_argument("--report", dest="only_report", action="store_true", help="print what is in the file")
    main(**vars(parser.parse_args()))
