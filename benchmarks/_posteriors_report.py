"""The printed tables of `posteriors.py`, from the same data as its JSON; and its bars."""

from __future__ import annotations

from typing import Any

from _posteriors_method import Cell
from _timing import table

EXACT = {
    "mean field": (),
    "ASVI": ("local level",),
    "full rank": ("regression", "local level"),
    "Laplace": ("regression", "local level"),
    "SMC": ("local level",),
    "NUTS": (
        "coin",
        "counts",
        "regression",
        "unknown noise",
        "local level",
        "eight schools, apart",
        "logistic",
    ),
}
"""Where a method can be right but for noise."""

EXACT_BAR = 0.1
"""Standard deviations that such a method may be off."""

SLACK = 0.1
"""How much further than NumPyro's same method ours may be off: both are trained by noisy steps."""


def _shown(cell: Cell | None, part: str) -> str:
    if cell is None:
        return ""
    return "-" if cell.reason else f"{getattr(cell, part):.2f}"


def of(data: dict[str, Any], part: str) -> str:
    """A row for each posterior, a column for each method; ours, and NumPyro's after a stroke."""
    methods = list(dict.fromkeys(m for row in data["rows"].values() for m in row["cells"]))
    rows = []
    for name, row in data["rows"].items():
        shown = []
        for method in methods:
            cells = row["cells"].get(method, {})
            texts = [_shown(cells.get(library), part) for library in ("ppl", "NumPyro")]
            shown.append(" / ".join(text for text in texts if text))
        rows.append((name, row["how"], *shown))
    return table(("posterior", "known by", *methods), rows)


def reasons(data: dict[str, Any]) -> str:
    """Why some cells are empty: each reason once."""
    found: dict[str, list[str]] = {}
    for name, row in data["rows"].items():
        for method, cells in row["cells"].items():
            for library, cell in cells.items():
                if cell.reason:
                    found.setdefault(f"{library}, {method}: {cell.reason.splitlines()[0][:160]}", []).append(
                        name
                    )
    return "\n".join(f"- {', '.join(names)}. {reason}" for reason, names in found.items())


def report(data: dict[str, Any]) -> str:
    parts = [
        f"Posteriors with known moments; {data['date']}, {data['machine']}, {data['seconds']:.0f} s.",
        "The largest error of a mean, in true standard deviations: ppl / NumPyro.",
        of(data, "mean"),
        "The largest error of a standard deviation, |log(sd / true sd)|: ppl / NumPyro.",
        of(data, "sd"),
        "Seconds, with compiling: ppl / NumPyro.",
        of(data, "seconds"),
        reasons(data),
    ]
    return "\n\n".join(part for part in parts if part)


def bars(data: dict[str, Any]) -> list[tuple[str, bool]]:
    """What our figures must reach, and whether they do."""
    found = []
    for name, row in data["rows"].items():
        for method, cells in row["cells"].items():
            own, other = cells.get("ppl"), cells.get("NumPyro")
            if own is None:
                continue
            if name in EXACT.get(method, ()):
                text = f"{name}, {method}: within {EXACT_BAR}: mean {own.mean:.3f}, sd {own.sd:.3f}"
                found.append((text, max(own.mean, own.sd) < EXACT_BAR))
            if other is not None and not other.reason:
                worse = not own.reason and max(own.mean - other.mean, own.sd - other.sd) < SLACK
                text = f"{name}, {method}: not worse than NumPyro's: {own.mean:.3f}, {own.sd:.3f}; "
                found.append((text + f"{other.mean:.3f}, {other.sd:.3f}", worse))
    return found
