"""The printed tables of `cone.py`, from the same data as its JSON; and its bars."""

from __future__ import annotations

from typing import Any

import numpy as np
from _timing import table

BAR = 0.02
"""Nats that a converged value may be from its optimum."""

ROUNDING = 0.005
"""Published values have two digits."""

ERRORS = 4.0
"""How many standard errors are noise."""


def estimate(cell: dict[str, Any] | None, schedule: str) -> str:
    if cell is None:
        return ""
    if "reason" in cell:
        return cell["reason"].split(":")[0]
    found = cell[schedule]
    return f"{found['value']:.3f} ± {found['error']:.3f}"


def libraries(data: dict[str, Any]) -> list[str]:
    """In the order in which they were measured."""
    return list(dict.fromkeys(name for row in data["rows"].values() for name in row["cells"]))


def of_paper(data: dict[str, Any]) -> str:
    names, rows = libraries(data), []
    for name, row in data["rows"].items():
        cells = row["cells"]
        rows.append(
            (
                name, f"{cells['ppl']['paper']['few']:.3f}",
                *(estimate(cells.get(library), "paper") for library in names),
                f"{row['table4']:.2f}", f"{row['rerun']:.2f}", f"{row['optimum']:.4f}",
            )
        )  # fmt: skip
    few = f"ppl, {data['sizes']['few']} draws"
    return table(("objective", few, *names, "table 4", "its rerun", "optimum"), rows)


def of_converged(data: dict[str, Any]) -> str:
    names, rows = libraries(data), []
    for name, row in data["rows"].items():
        short = row["cells"]["ppl"]["converged"]["value"] - row["optimum"]
        cells = (estimate(row["cells"].get(library), "converged") for library in names)
        check = row.get("simulated")
        simulated = f"{check['value']:.4f} ± {check['error']:.4f}" if check else ""
        rows.append((name, *cells, f"{short:+.4f}", f"{row['optimum']:.4f}", row["how"], simulated))
    return table(("objective", *names, "ppl - optimum", "optimum", "known by", "simulated"), rows)


def of_costs(data: dict[str, Any]) -> str:
    rows, reasons = [], []
    for name, row in data["rows"].items():
        base = row["cells"]["ppl"]["step"]
        for library, cell in row["cells"].items():
            if "reason" in cell:
                reasons.append(f"{name}, {library}: {cell['reason']}.")
                continue
            steps = {library: cell["step"]}
            if "step_in_loop" in cell:
                steps[f"{library}, same loop"] = cell["step_in_loop"]
            for label, step in steps.items():
                rest = [""] * 5
                if label == library:
                    variance = [f"{v:.3g}" for v in cell.get("variance", ())] or [""] * 3
                    rest = [f"{cell['first']:.2f}", str(cell["lines"]), *variance]
                rows.append((name, label, f"{1e6 * step:.1f}", f"{step / base:.2f}", *rest))
    header = "objective", "library", "us a step", "ratio", "first step s", "lines"
    text = table((*header, "variance: start", "middle", "optimum"), rows)
    return "\n".join([text, "", *reasons]) if reasons else text


def seeds(data: dict[str, Any]) -> list[str]:
    """How much the last parameters depend on luck, where a step takes one draw."""
    found = []
    for name, row in data["rows"].items():
        for library, cell in row["cells"].items():
            values = cell.get("paper", {}).get("seeds")
            if values:
                low, middle, high = np.min(values), np.median(values), np.max(values)
                found.append(
                    f"{name}, {library}, one draw a step: over {len(values)} seeds of the paper's schedule "
                    f"{low:.3f} to {high:.3f}, median {middle:.3f}."
                )
    return found


def report(data: dict[str, Any]) -> str:
    sizes = data["sizes"]
    parts = [
        f"The cone's bounds; {data['date']}, {data['machine']}, {data['seconds']:.0f} s.",
        "The paper's schedule: plain ascent of 1e-3, 5000 steps of 64 draws, IWELBO(5) of one. Means of\n"
        f"{sizes['draws']} fresh draws and their standard error; of {sizes['few']}, as the paper took.",
        of_paper(data),
        "\n".join(seeds(data)),
        "Converged: Adam from 0.03 by a cosine, 2000 steps of 64 draws; Pyro's IWELBO(5) of one, since\n"
        f"it has no batch of such bounds. Means of {sizes['converged']} draws. `simulated`: the bound by\n"
        "plain NumPy, near its optimum. Laws on a grid draw nothing either: `_cone_optima.py`.",
        of_converged(data),
        "A step of the paper's schedule, median of blocks in turns (Pyro: alone, in its own process);\n"
        "`ratio` to `ppl.fit`. `same loop`: our gradient in the bare loop that the others are timed in,\n"
        "which keeps no value. The first step traces and compiles. Lines: of guide and objective.\n"
        f"Variance: trace of the covariance of {sizes['gradients']} single-sample gradients.",
        of_costs(data),
    ]
    return "\n\n".join(part for part in parts if part)


SLOWER = 1.05
"""How many times as long as the fastest peer's a step of ours may take, in the same loop."""


def fastest(cells: dict[str, Any]) -> tuple[str, float]:
    """The peer whose step is the quickest, and how long it takes."""
    steps = {name: cell["step"] for name, cell in cells.items() if name != "ppl" and "step" in cell}
    name = min(steps, key=lambda name: steps[name])
    return name, steps[name]


def bars(data: dict[str, Any]) -> list[tuple[str, bool]]:
    """What our values and our steps must reach, and whether they do."""
    found = []
    for name, row in data["rows"].items():
        own, optimum = row["cells"]["ppl"], row["optimum"]
        paper, published = own["paper"], max(row["table4"], row["rerun"])
        # The published value is a mean of few draws itself.
        noise = ERRORS * paper["error"] * (1 + data["sizes"]["draws"] / data["sizes"]["few"]) ** 0.5
        reached = paper["value"] > published - ROUNDING - noise
        text = f"reaches {published:.2f} but for noise of {noise + ROUNDING:.2f}: {paper['value']:.3f}"
        found.append((f"{name}: the paper's schedule {text}", reached))
        off = own["converged"]["value"] - optimum
        found.append((f"{name}: converged within {BAR} of {optimum:.4f}: {off:+.4f}", abs(off) < BAR))
        if any("step" in cell for library, cell in row["cells"].items() if library != "ppl"):
            peer, step = fastest(row["cells"])
            ratio = own["step_in_loop"] / step
            text = f"{name}: a step in the same loop, {ratio:.2f} times {peer}'s, at most {SLOWER}"
            found.append((text, ratio <= SLOWER))
    return found
