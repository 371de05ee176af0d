"""Running a paper from the command line: the table, the bars, the picture, and all figures as JSON."""

from __future__ import annotations

import importlib
import json
import time
from pathlib import Path

import numpy as np

from models.common.paper import Paper, Result, Settings
from models.papers import PAPERS


def paper(name: str) -> Paper:
    """The paper of this name, imported when it is asked for."""
    return importlib.import_module(PAPERS[name]).PAPER


def listed() -> str:
    """A line for each."""
    return "\n".join(f"{name:24} {paper(name).title} ({paper(name).authors})" for name in sorted(PAPERS))


def ran(name: str, settings: Settings, output: Path) -> int:
    """Runs a paper and prints what came out; one if a bar is missed."""
    chosen = paper(name)
    print(f"{chosen.title}\n{chosen.authors}\n{chosen.shows}\n", flush=True)
    began = time.perf_counter()
    result = chosen.run(settings)
    seconds = time.perf_counter() - began
    output.mkdir(parents=True, exist_ok=True)
    picture, figures = output / f"{name}.png", output / f"{name}.json"
    result.picture.savefig(picture, dpi=150, bbox_inches="tight")
    record = {"figures": result.figures, "bars": [bar._asdict() for bar in result.bars], "seconds": seconds}
    figures.write_text(json.dumps(record | {"settings": settings._asdict()}, indent=1, default=float) + "\n")
    print(report(result))
    print(f"\n{seconds:.0f} s; {picture}, {figures}")
    if settings.quick:
        print("A quick run is too small to be held to the bars.")
        return 0
    return int(not all(bar.held for bar in result.bars))


def report(result: Result) -> str:
    """The table, the notes and the bars."""
    parts = [table(result), "\n".join(result.notes)]
    parts.append("\n".join(f"{'held  ' if bar.held else 'MISSED'}  {bar.text}" for bar in result.bars))
    return "\n\n".join(part for part in parts if part)


def table(result: Result) -> str:
    """Mean and standard deviation over the seeds of every figure."""
    columns = list(dict.fromkeys(name for row in result.figures.values() for name in row))
    rows = [["", *columns]]
    for name, row in result.figures.items():
        rows.append([name, *(cell(row[column]) if column in row else "" for column in columns)])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(text.ljust(w) for text, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([lines[0], "  ".join("-" * w for w in widths), *lines[1:]])


def cell(values: list[float]) -> str:
    """The mean, and the standard deviation where there are several."""
    spread = f" ± {np.std(values, ddof=1):.2g}" if len(values) > 1 else ""
    return f"{np.mean(values):.4g}{spread}"
