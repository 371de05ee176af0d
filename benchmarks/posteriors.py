"""Twelve posteriors whose moments are known: how far each guide and algorithm is off, beside NumPyro's.

For each posterior and method two figures: the largest distance of a mean from the true one, in true standard
deviations; and the largest error of a standard deviation, as |log(sd / true sd)|. The truth is a closed form,
a sum or a quadrature; for two posteriors a long run of NumPyro's NUTS. Of families of normals the best
member is found too, without noise: what a perfectly trained guide would show.

    python benchmarks/posteriors.py [--quick] [--only NAME ...] [--methods NAME ...] [--json FILE] [--report]

Guides of both libraries are trained by the same optimizer, for as many steps of as many draws. Every cell is
a line of JSON in FILE as soon as it is done, and is not measured again: what was stopped goes on. After a
change of the code, delete FILE. An error of any method is a cell with its reason. Fails if one of ours ends
in an error that is no refusal, or if a bar is missed; `_posteriors_bars.py` says which there are.
"""

from __future__ import annotations

import argparse
import time
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import _posteriors_numpyro
import _posteriors_optimum
import _posteriors_ours
import jax
from _log import Log
from _posteriors_bars import bars, failures
from _posteriors_known import Moments
from _posteriors_method import FULL, QUICK, Method, Sizes, judged
from _posteriors_problems import POSTERIORS
from _posteriors_report import report, rows
from _timing import machine

LIBRARIES: dict[str, dict[str, Method]] = {
    "ppl": _posteriors_ours.METHODS,
    "NumPyro": _posteriors_numpyro.METHODS,
    "optimum": _posteriors_optimum.METHODS,
}
OUTPUT = Path(__file__).parent / "output"


def known(name: str, key: jax.Array, sizes: Sizes, log: Log) -> Moments:
    """The true moments; a long run that tells them is made once."""
    posterior = POSTERIORS[name]
    if posterior.moments is not None:
        return posterior.moments()
    same = {"posterior": name, "sizes": list(sizes)}
    for line in log.of("reference"):
        if all(line[k] == v for k, v in same.items()):
            return Moments(line["mean"], line["sd"])
    found = _posteriors_numpyro.reference(posterior, key, sizes)
    listed = [{a: x.tolist() for a, x in part.items()} for part in found]
    log.add(kind="reference", **same, mean=listed[0], sd=listed[1])
    return found


def wanted(methods: list[str] | None) -> Iterator[tuple[str, str, Method]]:
    for library, own in LIBRARIES.items():
        yield from (
            (library, method, run) for method, run in own.items() if methods is None or method in methods
        )


def measure(names: list[str], methods: list[str] | None, sizes: Sizes, log: Log) -> None:
    """Every cell that the file has not."""
    for name in names:
        log.read()  # another process may be at other posteriors
        cells = rows(log.lines, [name], sizes)[name]["cells"]
        key = jax.random.fold_in(jax.random.key(0), list(POSTERIORS).index(name))
        todo = [
            (library, method, run)
            for library, method, run in wanted(methods)
            if (cell := cells.get(method, {}).get(library)) is None or cell.failed
        ]
        truth = known(name, jax.random.fold_in(key, 1), sizes, log) if todo else None
        for library, method, run in todo:
            assert truth is not None
            cell = judged(run, POSTERIORS[name], truth, key, sizes)
            line = {"posterior": name, "library": library, "method": method, "sizes": list(sizes)}
            log.add(kind="cell", **line, **cell._asdict())
            print(f"{time.strftime('%H:%M:%S')} {name}, {method}, {library}: {cell}", flush=True)
            jax.clear_caches()  # or hundreds of compiled loops fill the memory


def main(
    only: list[str] | None = None, methods: list[str] | None = None, quick: bool = False,
    file: Path | None = None, only_report: bool = False,
) -> dict[str, Any]:  # fmt: skip
    warnings.filterwarnings("ignore", message=".*diverged.*", category=RuntimeWarning)
    names, sizes = only or list(POSTERIORS), QUICK if quick else FULL
    log = Log(file or OUTPUT / f"posteriors{'-quick' if quick else ''}.jsonl")
    if not only_report:
        log.add(kind="run", date=time.strftime("%Y-%m-%d"), machine=machine())
        measure(names, methods, sizes, log)
    found = rows(log.lines, names, sizes)
    print("\n" + report(log.lines, found))
    # A quick run trains too little to be held to anything but that it runs.
    judged = failures(found) if quick else failures(found) + bars(found)
    print("\n" + "\n".join(f"{'held  ' if held else 'MISSED'}  {text}" for text, held in judged))
    if missed := [text for text, held in judged if not held]:
        raise SystemExit(f"{len(missed)} bars are missed")
    return found


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Posteriors with known moments, beside NumPyro.")
    parser.add_argument("--quick", action="store_true", help="hardly trained")
    parser.add_argument("--only", nargs="+", choices=list(POSTERIORS))
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--json", dest="file", type=Path, help="where the lines go; output/ by default")
    parser.add_argument("--report", dest="only_report", action="store_true", help="print what is in the file")
    main(**vars(parser.parse_args()))
