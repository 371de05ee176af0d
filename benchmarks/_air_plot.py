"""The picture of figure 7: accuracy and bound against seconds of training."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import matplotlib

matplotlib.use("Agg")
import matplotlib.pyplot as plt
from _air_plan import BETTER, PLATEAU
from _air_report import ABOVE, by_strategy, curves, empty_of


def picture(lines: list[dict[str, Any]], file: Path) -> Path:
    """A column for each start; a curve for each seed, a color for each strategy."""
    figure, axes = plt.subplots(2, 2, figsize=(11, 7), sharex="col", squeeze=False)
    for column, experiment in enumerate((BETTER, PLATEAU)):
        for number, (name, runs) in enumerate(by_strategy(curves(lines, experiment)).items()):
            for i, run in enumerate(runs):
                seconds = [line["seconds"] for line in run.epochs]
                for row, key in enumerate(("accuracy", "elbo")):
                    values = [line[key] for line in run.epochs]
                    label = name if i == 0 else None
                    axes[row, column].plot(seconds, values, color=f"C{number}", label=label, lw=1.2)
        axes[0, column].set(title=experiment, ylabel="counts that are right", ylim=(0, 1))
        axes[1, column].set(xlabel="seconds of training", ylabel="ELBO, nats")
        axes[1, column].axhline(empty_of(lines) + ABOVE, color="gray", ls=":", lw=1)
        axes[1, column].set_ylim(bottom=empty_of(lines) - 20)  # the start may lie far below
        if axes[0, column].lines:
            axes[0, column].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(file, dpi=130)
    plt.close(figure)
    return file
