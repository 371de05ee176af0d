"""Table 4 of "Probabilistic Programming with Programmable Variational Inference" (PLDI 2024), with its peers.

    x, y ~ Normal(0, 10)      z | x, y ~ Normal(s, 0.1 + s / 100) with s = x² + y²      z = 5 is observed

Five lower bounds of log p(z = 5). ELBO and IWELBO(5) have a guide of two normals; HVI, IWHVI(5,1) and
DIWHVI(5,5) one that draws an angle, and then a point near the ring; its density, with the angle summed out,
is estimated with one or five angles. Everybody trains from the same start, in the paper's schedule and in
one that converges, and each bound is printed beside the best that it can reach, and what was published.

    python benchmarks/cone.py [--quick] [--rows ELBO HVI ...] [--no-peers] [--json FILE] [--pyro PYTHON]

Fails if one of our values misses its bar. Pyro runs where `make bench-peers` has made its environment.
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path
from typing import Any

import _cone_genjax
import _cone_numpyro
import _cone_ours
from _cone_measure import ASCENDING, Block, our_trainer, pyro, steps_in_turns, their_block, values, variances
from _cone_optima import OPTIMA, simulated
from _cone_problem import FULL, QUICK, ROWS, Cell, Sizes, lines
from _cone_report import bars, report
from _pyro_process import PYRO
from _timing import machine

OTHERS = {"GenJAX": _cone_genjax, "NumPyro": _cone_numpyro}
NO_MARGINAL = "cannot: a guide has no density with a choice summed out"
NOT_RUN = "not run: make bench-peers"


def one(name: str, cell: Cell, file: str, making: Any, sizes: Sizes) -> dict[str, Any]:
    """All of a cell but the time of its steps."""
    found = values(cell, ROWS[name], making, sizes)
    found["variance"] = variances(cell, ROWS[name], sizes.gradients)
    found["lines"] = lines(Path(file), cell.written)
    return found


class BlocksOf:
    """Makes trainers of another library's cell, and keeps the paper's, to be timed later."""

    paper: Block

    def __init__(self, cell: Cell, name: str) -> None:
        self.cell, self.row = cell, ROWS[name]

    def __call__(self, optimizer: Any, batch: int) -> Any:
        block = their_block(self.cell, self.row, optimizer, batch)
        if optimizer is ASCENDING:
            self.paper = block
        return block.train


def row(name: str, sizes: Sizes, peers: bool) -> dict[str, Any]:
    """A row in every library that runs in this process."""
    found: dict[str, dict[str, Any]] = {}
    blocks: dict[str, Block] = {}
    for library, module in OTHERS.items() if peers else ():
        if name not in module.CELLS:
            found[library] = {"reason": NO_MARGINAL}
            continue
        making = BlocksOf(module.CELLS[name], name)
        found[library] = one(name, making.cell, str(module.__file__), making, sizes)
        blocks[library] = making.paper
    # Ours is the last, since emptying JAX's caches would empty its own.
    own = _cone_ours.OBJECTIVES[name]
    ours = lambda optimizer, batch: our_trainer(own, ROWS[name], optimizer, batch, sizes)
    found = {"ppl": one(name, _cone_ours.CELLS[name], _cone_ours.__file__, ours, sizes), **found}
    same = their_block(_cone_ours.CELLS[name], ROWS[name], ASCENDING, ROWS[name].batch)
    taken = steps_in_turns(own, {**blocks, "same loop": same}, ROWS[name], sizes)
    found["ppl"]["step_in_loop"] = taken.pop("same loop")
    for library, step in taken.items():
        found[library]["step"] = step
    return found


def known(name: str, draws: int) -> dict[str, Any]:
    """What can be said of a row without anybody's library."""
    optimum = OPTIMA[name]
    found = {"optimum": optimum.value(), "how": optimum.how}
    found |= {"table4": ROWS[name].table4, "rerun": ROWS[name].rerun}
    if "WHVI" in name:
        log_sd = ROWS[name].end["lx"]
        found["simulated"] = simulated(log_sd, 5 if name.startswith("D") else 1, draws)._asdict()
    return found


def pyro_cells(names: list[str], sizes: Sizes, python: Path) -> dict[str, dict[str, Any]]:
    if not python.exists():
        return {name: {"reason": NOT_RUN} for name in names}
    able = [name for name in names if "WHVI" not in name]
    found: dict[str, dict[str, Any]] = {name: {"reason": NO_MARGINAL} for name in names if name not in able}
    for cell in pyro(python, able, sizes):
        file = Path(__file__).parent / "_cone_pyro.py"
        found[cell.pop("row")] = {**cell, "lines": lines(file, tuple(cell["written"]))}
    return found


def measured(names: list[str], sizes: Sizes, peers: bool, python: Path) -> dict[str, Any]:
    """Everything that is printed."""
    began = time.perf_counter()
    rows = {name: {**known(name, sizes.converged), "cells": row(name, sizes, peers)} for name in names}
    for name, cell in (pyro_cells(names, sizes, python) if peers else {}).items():
        rows[name]["cells"]["Pyro"] = cell
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "seconds": time.perf_counter() - began,
        "sizes": sizes._asdict(),
        "rows": rows,
    }


def main(
    rows: list[str] | None = None, quick: bool = False, peers: bool = True, file: Path | None = None,
    python: Path = PYRO,
) -> dict[str, Any]:  # fmt: skip
    names = rows or (["HVI"] if quick else list(ROWS))
    data = measured(names, QUICK if quick else FULL, peers, python)
    if file is not None:
        file.write_text(json.dumps(data, indent=1) + "\n")
    print(report(data))
    if quick:
        print("\nA quick run trains too little to be held to the bars.")
        return data
    judged = bars(data)
    print("\n" + "\n".join(f"{'held  ' if held else 'MISSED'}  {text}" for text, held in judged))
    missed = [text for text, held in judged if not held]
    if missed:
        raise SystemExit(f"{len(missed)} bars are missed")
    return data


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Table 4, with its peers.")
    parser.add_argument("--quick", action="store_true", help="HVI alone, hardly trained")
    parser.add_argument("--rows", nargs="+", choices=list(ROWS))
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--json", dest="file", type=Path, help="where to write all figures")
    parser.add_argument("--pyro", dest="python", type=Path, default=PYRO, help="a Python that has Pyro")
    main(**vars(parser.parse_args()))
