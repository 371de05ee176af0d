"""Table 2 of "Probabilistic Programming with Programmable Variational Inference" (PLDI 2024), with its peers.

One gradient of attend, infer, repeat (`src/models/air`) for a batch of images, under five pairs of objective
and estimator of the presence of an object: ours, as written by hand, in GenJAX, and in Pyro where
`make bench-peers` has made its environment. All take turns in one run. Each gradient has a fresh key, and
its derivative in the bias of the presence is kept: those of one row have to agree in the mean, in units of
their own standard error.

    python benchmarks/air_steps.py [--rows MVD ENUM ...] [--repeats 40] [--no-peers] [--json FILE]

Times are per step; an epoch is the 64 steps of 4,096 images. Compilation is apart.
"""

from __future__ import annotations

import argparse
import json
import math
import statistics
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import _air_genjax
import _air_hand
import jax
import jax.numpy as jnp
import numpy as np
from _pyro_process import PYRO, Ask, answering
from _timing import machine, table

from models.air.data import split
from models.air.model import NOISE, PRESENT, SMOOTHING, STARTS, WHERE
from models.air.nets import Sizes, initial
from models.air.objectives import STRATEGIES, objective

ROWS = ("REINFORCE", "MVD", "ENUM", "IWELBO(2) + REINFORCE", "IWELBO(2) + MVD")
EPOCH = 4096
ERRORS = 5.0
"""Of means: a false alarm is one in 1.7 million for each comparison."""
CANNOT = {
    "MVD": "cannot: no measure-valued estimator",
    "IWELBO(2) + MVD": "cannot: no measure-valued estimator",
}
BY_HAND = "not written: three rows are"

# One gradient with the key of that number: its seconds, and its derivative in the bias of the presence.
Draw = Callable[[int], tuple[float, float]]


class Cell(NamedTuple):
    """What was measured of one library in one row; times in seconds.

    Attributes:
        step: the median.
        quick: what one of ten is faster than; it says more where others use the machine.
        compile: tracing included.
        slope, error: the mean derivative in the bias of the presence.
    """

    step: float
    quick: float
    compile: float | None
    slope: float
    error: float


def compiled(gradient: Callable[..., Any], params: Any, images: Any, seed: int) -> tuple[Draw, float]:
    """A contestant that JAX compiles, and how long that took, tracing included."""
    root = jax.random.key(seed)
    began = time.perf_counter()
    function = jax.jit(gradient).lower(root, params, images).compile()
    took = time.perf_counter() - began

    def draw(turn: int) -> tuple[float, float]:
        key = jax.block_until_ready(jax.random.fold_in(root, turn))
        began = time.perf_counter()
        found = jax.block_until_ready(function(key, params, images))
        seconds = time.perf_counter() - began
        slopes = found[1] if isinstance(found, tuple) else found
        return seconds, float(slopes["presence"]["b"][0])

    return draw, took


def ours(row: str) -> Callable[..., Any]:
    made = objective(STRATEGIES[row], STARTS["pyro"])
    return lambda key, params, images: made.value_and_grad(key, params, images)


@contextmanager
def pyro(params: Any, images: Any, python: Path) -> Iterator[dict[str, Draw]]:
    """Pyro's contestants, in a process that waits while others run; none where there is no Pyro."""
    if not python.exists():
        yield {}
        return
    constants = {
        "images": images, "present": np.float32(PRESENT), "where": np.stack(WHERE),
        "offset": np.stack(STARTS["pyro"].where), "noise": np.float32(NOISE),
        "smoothing": np.float32(SMOOTHING),
    }  # fmt: skip
    with answering(python, "_air_pyro.py", params=params, **constants) as (names, ask):
        yield {name: asking(ask, name) for name in names}


def asking(ask: Ask, name: str) -> Draw:
    def draw(turn: int) -> tuple[float, float]:
        answer = ask({"name": name, "seed": turn})
        return answer["seconds"], answer["slope"]

    return draw


def raced(draws: dict[str, Draw], took: dict[str, float], repeats: int) -> dict[str, Cell]:
    """All cells of a row: one call each a round, in reversed order every second round."""
    names, found = list(draws), {name: [] for name in draws}
    for turn in range(repeats + 2):
        for name in names if turn % 2 else reversed(names):
            one = draws[name](turn)
            if turn > 1:
                found[name].append(one)
    cells = {}
    for name, values in found.items():
        seconds, slopes = zip(*values, strict=True)
        error = statistics.stdev(slopes) / len(slopes) ** 0.5
        quick = sorted(seconds)[len(seconds) // 10]
        cells[name] = Cell(statistics.median(seconds), quick, took.get(name), statistics.fmean(slopes), error)
    return cells


def row(
    name: str, params: Any, images: Any, repeats: int, peers: bool, theirs: dict[str, Draw]
) -> dict[str, Cell]:
    gradients = {"ppl": ours(name)}
    if name in _air_hand.GRADIENTS:
        gradients = {"hand-written": _air_hand.GRADIENTS[name], **gradients}
    if peers:
        gradients["GenJAX"] = _air_genjax.GRADIENTS[name]
        if name in _air_genjax.TOGETHER:
            gradients[TOGETHER] = _air_genjax.TOGETHER[name]
    draws, took = {}, {}
    for seed, (library, gradient) in enumerate(gradients.items()):
        draws[library], took[library] = compiled(gradient, params, images, seed)
    if name in theirs:
        draws["Pyro"] = theirs[name]
    return raced(draws, took, repeats)


def disagreeing(rows: dict[str, dict[str, Cell]]) -> list[str]:
    """Cells whose mean slope is not ours: of a bound, whatever the estimator, there is one gradient."""
    wrong = []
    for name, cells in rows.items():
        for library, cell in cells.items():
            if is_nothing(cell):
                continue
            z = (cell.slope - cells["ppl"].slope) / max(math.hypot(cell.error, cells["ppl"].error), 1e-6)
            if abs(z) > ERRORS:
                wrong.append(f"{name}, {library}: slope {cell.slope:.2f}, not {cells['ppl'].slope:.2f}")
    return wrong


TOGETHER = "GenJAX, one expectation"
"""Where a score multiplies the bound of the whole batch: another estimator, of far more variance."""
LIBRARIES = ("hand-written", "ppl", "GenJAX", TOGETHER, "Pyro")


def report(data: dict[str, Any]) -> str:
    lines = []
    for name, cells in data["rows"].items():
        for library in LIBRARIES:
            if library in cells:
                lines.append((name, library, *shown(cells[library], cells["ppl"], data)))
            elif library != TOGETHER:
                lines.append((name, library, reason(name, library, data["pyro"]), *[""] * 5))
    header = (
        "row", "written with", "ms a step", "s an epoch", "times ours", "at their quickest", "sd of slope",
        "compile s",
    )  # fmt: skip
    return table(header, lines)


def shown(cell: Cell, ours: Cell, data: dict[str, Any]) -> list[str]:
    numbers = (1e3 * cell.step, cell.step * EPOCH / data["batch"], cell.step / ours.step)
    deviation = cell.error * data["repeats"] ** 0.5
    compiling = "" if cell.compile is None else f"{cell.compile:.1f}"
    ratios = [f"{numbers[2]:.2f}", f"{cell.quick / ours.quick:.2f}"]
    return [f"{numbers[0]:.1f}", f"{numbers[1]:.2f}", *ratios, f"{deviation:.3g}", compiling]


def reason(name: str, library: str, has_pyro: bool) -> str:
    if library == "hand-written":
        return BY_HAND
    if library == "Pyro" and name in CANNOT:
        return CANNOT[name]
    return "not run: make bench-peers" if library == "Pyro" and not has_pyro else "not run"


def bars(rows: dict[str, dict[str, Cell]]) -> list[tuple[str, bool]]:
    """Not slower than by hand by more than a twentieth, and faster than every form of the peers.

    By the quick times: a median says more of what else the machine does.
    """
    judged = []
    for name, cells in rows.items():
        for library, cell in cells.items():
            ratio = cells["ppl"].quick / cell.quick
            if library == "hand-written":
                judged.append((f"{name}: {ratio:.2f} times by hand, at most 1.05", ratio <= 1.05))
            elif library != "ppl":
                judged.append((f"{name}: {1 / ratio:.1f} times as fast as {library}", ratio < 1))
    return judged


def main(
    rows: list[str], repeats: int, batch: int, peers: bool, file: Path | None = None, python: Path = PYRO,
    sizes: Sizes = Sizes(),  # noqa: B008
) -> dict[str, Any]:  # fmt: skip
    params = initial(jax.random.key(0), sizes, STARTS["pyro"].decoder_bias)
    images = jnp.asarray(split(batch, 1)[0].images)
    with pyro(params, np.asarray(images), python if peers else Path("/nonexistent")) as theirs:
        found = {name: row(name, params, images, repeats, peers, theirs) for name in rows}
        has_pyro = bool(theirs)
    data = {
        "date": time.strftime("%Y-%m-%d"), "batch": batch, "repeats": repeats, "peers": peers,
        "pyro": has_pyro,
        "machine": machine(), "rows": found,
    }  # fmt: skip
    if file is not None:
        plain = {name: {l: c._asdict() for l, c in cells.items()} for name, cells in found.items()}  # noqa: E741
        file.write_text(json.dumps({**data, "rows": plain}, indent=1) + "\n")
    print(f"One gradient for {batch} images, median of {repeats}; {data['machine']}\n")
    print(report(data))
    print("\nMean derivative in the bias of the presence: " + agreement(found))
    for text, held in bars(found):
        print(f"{'held  ' if held else 'MISSED'}  {text}")
    return data


def is_nothing(cell: Cell) -> bool:
    """Whether the presence gets no gradient at all."""
    return cell.slope == 0.0 == cell.error


def agreement(rows: dict[str, dict[str, Cell]]) -> str:
    if wrong := disagreeing(rows):
        raise SystemExit("These compute another gradient: " + "; ".join(wrong))
    cells = [(name, library, cell) for name, of in rows.items() for library, cell in of.items()]
    none = [f"{name}, {library}" for name, library, cell in cells if is_nothing(cell)]
    return "all agree" + (f", but there is none at all in {'; '.join(none)}." if none else ".")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Table 2, with its peers.")
    parser.add_argument("--rows", nargs="+", choices=ROWS, default=list(ROWS))
    parser.add_argument("--repeats", type=int, default=40)
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--no-peers", dest="peers", action="store_false")
    parser.add_argument("--json", dest="file", type=Path, help="where to write all figures")
    parser.add_argument("--pyro", dest="python", type=Path, default=PYRO, help="a Python that has Pyro")
    data = main(**vars(parser.parse_args()))
    raise SystemExit(0 if all(held for _, held in bars(data["rows"])) else 1)
