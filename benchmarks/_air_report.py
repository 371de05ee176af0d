"""The tables of figure 7, from the lines that the runs have written."""

from __future__ import annotations

import statistics
from typing import NamedTuple

from _air_plan import BETTER, JUDGED, PLATEAU, RATES, SEEDS, TRIED, TUNING, Run
from _log import Line
from _timing import table

ABOVE = 10.0
"""Nats over the bound of a guide that finds nothing, from which a run has left the plateau."""
GOOD = 0.8
ERRORS = 5.0


class Curve(NamedTuple):
    """The epochs of one run, the first before training."""

    strategy: str
    seed: int
    epochs: list[Line]

    @property
    def last(self) -> Line:
        return self.epochs[-1]

    @property
    def finished(self) -> bool:
        return self.last["number"] == self.last["setting"][3]

    @property
    def rate(self) -> float:
        return self.last["setting"][0]

    @property
    def second(self) -> float:
        """Seconds of an epoch."""
        return self.last["seconds"] / max(self.last["number"], 1)

    def left(self, empty: float) -> Line | None:
        """The epoch after which it has left the plateau."""
        return next((line for line in self.epochs if line["elbo"] > empty + ABOVE), None)


def curves(lines: list[Line], experiment: str) -> list[Curve]:
    """Every run of an experiment, by strategy and seed; of a run that was begun twice, the longer."""
    found: dict[tuple[str, int, float], list[Line]] = {}
    for line in lines:
        if line["kind"] == "epoch" and line["experiment"] == experiment:
            epochs = found.setdefault((line["strategy"], line["seed"], line["setting"][0]), [])
            if line["number"] == 0:
                epochs.clear()
            epochs.append(line)
    return [Curve(strategy, seed, epochs) for (strategy, seed, _), epochs in found.items()]


def finished(lines: list[Line], experiment: str) -> list[Curve]:
    """What tables and bars are of."""
    return [curve for curve in curves(lines, experiment) if curve.finished]


def by_strategy(found: list[Curve]) -> dict[str, list[Curve]]:
    grouped: dict[str, list[Curve]] = {}
    for curve in found:
        grouped.setdefault(curve.strategy, []).append(curve)
    return grouped


def empty_of(lines: list[Line]) -> float:
    return next(line["empty"] for line in lines if line["kind"] == "run")


def median(values: list[float]) -> float:
    return statistics.median(values) if values else float("nan")


def row(strategy: str, runs: list[Curve], empty: float) -> tuple[str, ...]:
    left = [line for run in runs if (line := run.left(empty)) is not None]
    accuracy = [run.last["accuracy"] for run in runs]
    shown = lambda key, form: format(median([line[key] for line in left]), form) if left else "never"
    return (
        strategy,
        f"{sum(a > GOOD for a in accuracy)} of {len(runs)}",
        f"{median(accuracy):.3f}",
        f"{min(accuracy):.3f}",
        f"{median([run.last['elbo'] for run in runs]):.1f}",
        f"{len(left)} of {len(runs)}",
        shown("number", ".0f"),
        shown("seconds", ".1f"),
        f"{median([run.second for run in runs]):.2f}",
        str(runs[0].last["number"]),
    )


def by_rate(lines: list[Line]) -> dict[str, dict[float, list[Curve]]]:
    """The runs of each strategy whose rates were all tried, by rate."""
    found: dict[str, dict[float, list[Curve]]] = {}
    for name, runs in by_strategy(finished(lines, TUNING)).items():
        tried = {rate: [run for run in runs if run.rate == rate] for rate in TRIED}
        if all(tried.values()):
            found[name] = tried
    return found


def bound(runs: list[Curve]) -> float:
    return median([run.last["elbo"] for run in runs])


def rates(lines: list[Line]) -> str:
    cell = lambda runs: (
        f"{bound(runs):.1f} ({median([run.last['accuracy'] for run in runs]):.3f}, {len(runs)})"
    )
    rows = [(name, *map(cell, tried.values())) for name, tried in by_rate(lines).items()]
    return table(("strategy", *(f"{rate:g}" for rate in TRIED)), rows) if rows else "not run"


HEADER = (
    "strategy", "seeds above 0.8", "median accuracy", "worst", "ELBO", "left the plateau",
    "after epochs", "after s", "s an epoch", "epochs",
)  # fmt: skip


def figure(lines: list[Line], experiment: str) -> str:
    empty = empty_of(lines)
    rows = [row(name, runs, empty) for name, runs in by_strategy(finished(lines, experiment)).items()]
    left_out = [curve for curve in curves(lines, experiment) if not curve.finished]
    note = "".join(
        f"\nnot finished: {run.strategy}, seed {run.seed}, epoch {run.last['number']}" for run in left_out
    )
    return (table(HEADER, rows) if rows else "not run") + note


def confusions(lines: list[Line]) -> str:
    """Of the test canvases with 0, 1, 2 digits, how many are said to have 0, 1, 2, 3: the median seed."""
    rows = []
    for name, runs in by_strategy(finished(lines, BETTER)).items():
        middle = sorted(runs, key=lambda run: run.last["accuracy"])[len(runs) // 2]
        rows.append((name, str(middle.seed), *(" ".join(map(str, row)) for row in middle.last["confusion"])))
    return table(("strategy", "seed", "none", "one", "two"), rows) if rows else "not run"


def variance(lines: list[Line]) -> str:
    rows = [
        (
            str(line["epoch"]),
            *(f"{line[name]:.3g}" for name in ("ENUM", "MVD", "REINFORCE")),
            f"{line['images between']} of {line['images']}",
            *(
                "" if line[f"{n} apart"] is None else f"{line[f'{n} apart']:.1f}"
                for n in ("MVD", "REINFORCE")
            ),
        )
        for line in lines
        if line["kind"] == "variance"
    ]
    header = (
        "after epoch", "ENUM", "MVD", "REINFORCE", ".05 < p < .95", "MVD - ENUM, errors",
        "REINFORCE - ENUM, errors",
    )  # fmt: skip
    return table(header, rows) if rows else "not run"


def ablations(lines: list[Line]) -> str:
    found = [line for line in lines if line["kind"] == "ablations"]
    if not found:
        return "not run"
    named = {name: value for name, value in found[-1].items() if name != "kind"}
    return table(("ablation", "standard errors"), [(name, f"{value:.1f}") for name, value in named.items()])


def report(lines: list[Line], missing: list[Run]) -> str:
    """The tables; of a plan whose `missing` runs have not been made."""
    machines = {f"{line['date']}, {line['machine']}" for line in lines if line["kind"] == "run"}
    parts = {
        f"Figure 7, better start ({'; '.join(sorted(machines))})": figure(lines, BETTER),
        "Rates, on other seeds: the median bound (median count accuracy, seeds)": rates(lines),
        "Canvases with no, one and two digits: said to have 0, 1, 2, 3 objects": confusions(lines),
        f"The paper's start and rate; the plateau is at {empty_of(lines):.1f} nats": figure(lines, PLATEAU),
        "Variance of the presence head's gradient, one image": variance(lines),
        "Ablations: naive derivatives against ENUM, the guide's part of wake-sleep against zero": ablations(
            lines
        ),
    }
    if missing:
        parts["Not run, of this profile"] = "\n".join(
            f"{run.experiment}, {run.strategy}, seed {run.seed}" for run in missing
        )
    return "\n\n".join(f"{title}\n{text}" for title, text in parts.items()) + "\n"


def bars(lines: list[Line]) -> list[tuple[str, bool]]:
    """What has to hold, as far as it was run."""
    judged = []
    better = by_strategy(finished(lines, BETTER))
    for name in JUDGED:
        if name in better:
            accuracy = [run.last["accuracy"] for run in better[name]]
            text = (
                f"{name}: median accuracy {median(accuracy):.3f} of {len(accuracy)} seeds, at least 0.9 of 5"
            )
            judged.append((text, median(accuracy) >= 0.9 and len(accuracy) >= len(SEEDS)))
    for name, tried in by_rate(lines).items():
        best = max(tried, key=lambda rate: bound(tried[rate]))
        text = f"{name}: of three rates {best:g} reaches the best bound; the profiles have {RATES[name]:g}"
        judged.append((text, best == RATES[name]))
    judged += stays(lines)
    for line in lines:
        if line["kind"] == "ablations":
            for name in ("ignored", "straight-through"):
                text = f"{name}: {line[name]:.0f} standard errors off, at least {ERRORS:.0f}"
                judged.append((text, line[name] > ERRORS))
            one, ten = line["RWS(1) from zero"], line["RWS(10) from zero"]
            text = f"RWS(1) moves the guide nowhere: {one:.1f} standard errors, of RWS(10) {ten:.0f}"
            judged.append((text, one < ERRORS < ten))
        if line["kind"] == "variance" and line["MVD apart"] is not None:
            text = f"MVD and ENUM agree after epoch {line['epoch']}: {line['MVD apart']:.1f} standard errors"
            judged.append((text, line["MVD apart"] < ERRORS))
    return judged


def stays(lines: list[Line]) -> list[tuple[str, bool]]:
    """Of each seed: REINFORCE is still on the plateau when MVD leaves it, in epochs and in seconds."""
    judged, empty = [], empty_of(lines)
    runs = {(run.strategy, run.seed): run for run in finished(lines, PLATEAU)}
    for (strategy, seed), run in runs.items():
        left, other = run.left(empty), runs.get(("REINFORCE", seed))
        if strategy != "MVD" or other is None:
            continue
        text = f"the paper's start, seed {seed}: MVD leaves the plateau"
        if left is None:
            judged.append((text, False))
            continue
        out = other.left(empty)
        when = "never" if out is None else f"at epoch {out['number']}, {out['seconds']:.0f} s"
        text += f" at epoch {left['number']}, {left['seconds']:.0f} s; REINFORCE {when}, later in both"
        later = out is None or (out["number"] > left["number"] and out["seconds"] > left["seconds"])
        judged.append((text, later))
    return judged
