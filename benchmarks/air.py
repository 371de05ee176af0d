"""Figure 7 of "Probabilistic Programming with Programmable Variational Inference" (PLDI 2024).

Attend, infer, repeat (`src/models/air`) learns to count the digits on canvases of scikit-learn's scans,
under each objective and estimator of the presence of an object: how many seeds learn it, how well, and how
fast. Beside it: the plateau on which the score function stays at the start that the paper's code had; the
variance of the estimators at three stages; and ablations that must fail.

    python benchmarks/air.py [--profile quick|full|rates|paper] [--workers N] [--json FILE] [--report]

The profile `paper` has the sizes, rates and epochs of the paper, on canvases of 50 x 50, and is for a GPU. On
CPUs the work is shared by N processes of one thread each. Every epoch is a line of JSON in FILE as soon as it
is done. A run that is in FILE already is not run again, so that what was stopped goes on; `--report` only
prints the tables of what is there, and what is not. The picture lies beside it. Fails if a bar is missed.
"""

from __future__ import annotations

import argparse
import itertools
import multiprocessing
import os
import time
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path

import jax.numpy as jnp
from _air_checks import ablations, empty_bound, variances
from _air_plan import PROFILES, RATES, Profile, Run, setting
from _air_plot import picture
from _air_report import bars, report
from _log import Line, Log
from _timing import machine

from models.air.data import Canvases, split
from models.air.model import STARTS
from models.air.nets import Sizes
from models.air.objectives import STRATEGIES
from models.air.train import trainer

OUTPUT = Path(__file__).parent / "output"
VARIANCE_SEED = 20

# One or more runs of one program; none stands for variances and ablations.
Task = list[Run]
Data = tuple[Canvases, Canvases]


def has(log: Log, run: Run) -> bool:
    """Whether the run is there to its end."""
    same = {"experiment": run.experiment, "strategy": run.strategy, "seed": run.seed}
    same |= {"setting": list(run.setting), "number": run.setting.epochs}
    return any(all(line[k] == v for k, v in same.items()) for line in log.of("epoch"))


def say(text: str) -> None:
    print(f"  {time.strftime('%H:%M:%S')} {text}", flush=True)


def train(runs: Task, data: Data, log: Log, sizes: Sizes) -> None:
    """Runs of one program, which is compiled once."""
    first = runs[0]
    trained = trainer(STRATEGIES[first.strategy], STARTS[first.start], data, first.setting, sizes)
    for run in runs:
        began = time.perf_counter()
        for epoch, _ in trained(run.seed):
            wall = time.perf_counter() - began
            log.add(kind="epoch", **run._asdict(), **epoch._asdict(), wall=wall)
        say(
            f"{run.experiment}, {run.strategy}, seed {run.seed}: accuracy {epoch.accuracy:.3f}, ELBO "
            f"{epoch.elbo:.1f} after {epoch.number} epochs, {epoch.seconds:.0f} s of {wall:.0f} in training"
        )


def check(profile: Profile, data: Data, log: Log, sizes: Sizes) -> None:
    """Variances along one ENUM run, and the ablations at its start."""
    images = jnp.asarray(data[0].images[: profile.images])
    trained_as = setting(RATES["ENUM"], max(profile.stages))
    run = trainer(STRATEGIES["ENUM"], STARTS["pyro"], data, trained_as, sizes)
    stages = {
        trained.epoch.number: trained.params
        for trained in itertools.islice(run(VARIANCE_SEED), max(profile.stages) + 1)
        if trained.epoch.number in profile.stages
    }
    rows = variances(stages, images, profile.draws, say)
    found = ablations(stages[0], images, profile.draws)
    for row in rows:  # all at once, so that what was stopped has none of them
        log.add(kind="variance", **row)
    log.add(kind="ablations", **found)
    say("ablations: " + ", ".join(f"{name} {value:.1f}" for name, value in found.items()))


def work(task: Task, profile: Profile, data: Data, file: Path, sizes: Sizes) -> float:
    """Does a task; how much processor time it took."""
    began, log = time.process_time(), Log(file)
    if task:
        train(task, data, log, sizes)
    else:
        check(profile, data, log, sizes)
    return time.process_time() - began


def tasks(profile: Profile, log: Log) -> list[Task]:
    """What the file has not, in the order of the plan; the checks after what is judged."""
    groups = [[run for run in runs if not has(log, run)] for runs in profile.groups]
    checks: list[Task] = [] if log.of("ablations") or not profile.stages else [[]]
    return [*filter(None, groups[:2]), *checks, *filter(None, groups[2:])]


def measure(profile: Profile, data: Data, log: Log, sizes: Sizes, workers: int) -> None:
    """All tasks, on so many processes."""
    began, todo = time.perf_counter(), tasks(profile, log)
    if workers == 1:
        spent = sum(work(task, profile, data, log.file, sizes) for task in todo)
    else:
        # Of what starts from here: with two processes on two cores, more threads only get in the way.
        os.environ["XLA_FLAGS"] = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
        with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
            given = [pool.submit(work, task, profile, data, log.file, sizes) for task in todo]
            try:
                spent = sum(done.result() for done in as_completed(given))
            except BaseException:
                pool.shutdown(cancel_futures=True)
                raise
    minutes = (time.perf_counter() - began) / 60
    say(f"{minutes:.1f} minutes on {workers} processes, {spent / 60:.1f} minutes of processor time\n")


def main(
    profile: str = "quick", file: Path | None = None, only_report: bool = False, workers: int | None = None,
    data: Data | None = None, sizes: Sizes | None = None,
) -> list[Line]:  # fmt: skip
    plan = PROFILES[profile]
    sizes = sizes or plan.sizes
    log = Log(file or OUTPUT / f"air-{profile}.jsonl")
    if not only_report:
        data = data or split(plan.train, plan.test, side=sizes.canvas)
        log.add(kind="run", date=time.strftime("%Y-%m-%d"), machine=machine(), empty=empty_bound(data[1]))
        measure(plan, data, log, sizes, workers or plan.workers)
        log.read()
    print(report(log.lines, [run for run in plan.runs if not has(log, run)]))
    judged = bars(log.lines)
    for text, held in judged:
        print(f"{'held  ' if held else 'MISSED'}  {text}")
    print(f"\n{log.file}, {picture(log.lines, log.file.with_suffix('.png'))}")
    if missed := [text for text, held in judged if not held]:
        raise SystemExit(f"{len(missed)} bars are missed")
    return log.lines


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Figure 7.")
    parser.add_argument("--profile", choices=list(PROFILES), default="quick")
    parser.add_argument("--json", dest="file", type=Path, help="where the lines go; output/ by default")
    parser.add_argument("--report", dest="only_report", action="store_true", help="print what is in the file")
    parser.add_argument("--workers", type=int, help="processes, of one thread each; 2, for a GPU 1")
    main(**vars(parser.parse_args()))
