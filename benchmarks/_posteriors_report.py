"""The printed tables of `posteriors.py`, from the lines of its file."""

from __future__ import annotations

from typing import Any

from _log import Line
from _posteriors_method import Cell, Sizes
from _posteriors_problems import POSTERIORS
from _timing import table

Rows = dict[str, dict[str, Any]]


def rows(lines: list[Line], names: list[str], sizes: Sizes) -> Rows:
    """By posterior: how it is known, and its cells by method and library; the last of each."""
    found: Rows = {name: {"how": POSTERIORS[name].how, "cells": {}} for name in names}
    for line in lines:
        if line["kind"] == "cell" and line["sizes"] == list(sizes) and line["posterior"] in found:
            cells = found[line["posterior"]]["cells"].setdefault(line["method"], {})
            cells[line["library"]] = Cell(*(line[name] for name in Cell._fields))
    return found


def _texts(cells: dict[str, Cell], part: str, libraries: tuple[str, ...]) -> list[str]:
    """In the order of the libraries; nothing of a best that is not known."""
    known = {library: cell for library, cell in cells.items() if library != "optimum" or not cell.reason}
    unknown = ["?"] if known and "ppl" not in known else []  # not measured yet
    return unknown + [_shown(known[library], part) for library in libraries if library in known]


def _shown(cell: Cell, part: str) -> str:
    if cell.failed:
        return "FAILED"
    return "-" if cell.reason else f"{getattr(cell, part):.{1 if part == 'seconds' else 2}f}"


def of(found: Rows, part: str, libraries: tuple[str, ...]) -> str:
    """A row for each posterior, a column for each method; the libraries' figures between strokes."""
    methods = list(dict.fromkeys(m for row in found.values() for m in row["cells"]))
    shown = []
    for name, row in found.items():
        texts = [" / ".join(_texts(row["cells"].get(m, {}), part, libraries)) for m in methods]
        shown.append((name, row["how"], *texts))
    return table(("posterior", "known by", *methods), shown)


def reasons(found: Rows) -> str:
    """Why some cells have no figures: each reason once."""
    said: dict[str, list[str]] = {}
    for name, row in found.items():
        for method, cells in row["cells"].items():
            for library, cell in cells.items():
                if cell.reason and library != "optimum":
                    what = "FAILED: " if cell.failed else ""
                    said.setdefault(f"{library}, {method}: {what}{cell.reason}", []).append(name)
    return "\n".join(f"- {', '.join(names)}. {reason}" for reason, names in said.items())


def report(lines: list[Line], found: Rows) -> str:
    runs = {f"{line['date']}, {line['machine']}" for line in lines if line["kind"] == "run"}
    cells = [cell for row in found.values() for own in row["cells"].values() for cell in own.values()]
    seconds = sum(cell.seconds for cell in cells if not cell.reason)
    all_three, two = ("ppl", "NumPyro", "optimum"), ("ppl", "NumPyro")
    parts = [
        f"Posteriors with known moments; {'; '.join(sorted(runs))}; {seconds:.0f} s of processor time.",
        "The largest error of a mean, in true standard deviations: ppl / NumPyro / the family's best.",
        of(found, "mean", all_three),
        "The largest error of a standard deviation, |log(sd / true sd)|: ppl / NumPyro / the family's best.",
        of(found, "sd", all_three),
        "Seconds of processor time, with compiling: ppl / NumPyro.",
        of(found, "seconds", two),
        reasons(found),
    ]
    return "\n\n".join(part for part in parts if part)
