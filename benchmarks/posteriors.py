"""Twelve posteriors whose moments are known: how far each guide and algorithm is off, beside NumPyro's.

For each posterior and method two figures: the largest distance of a mean from the true one, in true standard
deviations; and the largest error of a standard deviation, as |log(sd / true sd)|. The truth is a closed form,
a sum or a quadrature; for two posteriors a long run of NumPyro's NUTS.

    python benchmarks/posteriors.py [--quick] [--only NAME ...] [--methods NAME ...] [--json FILE]

Guides of both libraries are trained by the same optimizer, for as many steps of as many draws. Fails if a bar
is missed: exact families reach what is known, and ours is nowhere worse than NumPyro's by more than noise.
"""

from __future__ import annotations

import argparse
import json
import time
import warnings
from pathlib import Path
from typing import Any

import _posteriors_numpyro
import _posteriors_ours
import jax
import numpy as np
from _posteriors_method import FULL, QUICK, Cell, Sizes, judged
from _posteriors_problems import POSTERIORS
from _posteriors_report import bars, report
from _timing import machine

LIBRARIES = {"ppl": _posteriors_ours.METHODS, "NumPyro": _posteriors_numpyro.METHODS}


def measured(names: list[str], methods: list[str] | None, sizes: Sizes) -> dict[str, Any]:
    """Everything that is printed."""
    began = time.perf_counter()
    rows: dict[str, Any] = {}
    for number, name in enumerate(names):
        posterior, key = POSTERIORS[name], jax.random.fold_in(jax.random.key(0), number)
        if posterior.moments is None:
            truth = _posteriors_numpyro.reference(posterior, jax.random.fold_in(key, 1), sizes)
        else:
            truth = posterior.moments()
        cells: dict[str, dict[str, Cell]] = {}
        for library, own in LIBRARIES.items():
            for method, run in own.items():
                if methods is None or method in methods:
                    cell = judged(run, posterior, truth, key, sizes)
                    cells.setdefault(method, {})[library] = cell
                    print(f"{name}, {method}, {library}: {cell}", flush=True)
                    jax.clear_caches()  # or hundreds of compiled loops fill the memory
        size = int(sum(np.size(x) for x in truth.mean.values()))
        rows[name] = {"how": posterior.how, "size": size, "cells": cells}
    return {
        "date": time.strftime("%Y-%m-%d"),
        "machine": machine(),
        "seconds": time.perf_counter() - began,
        "sizes": sizes._asdict(),
        "rows": rows,
    }


def main(
    only: list[str] | None = None, methods: list[str] | None = None, quick: bool = False,
    file: Path | None = None,
) -> dict[str, Any]:  # fmt: skip
    warnings.filterwarnings("ignore", message=".*diverged.*", category=RuntimeWarning)
    data = measured(only or list(POSTERIORS), methods, QUICK if quick else FULL)
    if file is not None:
        file.write_text(json.dumps(data, indent=1, default=lambda x: x._asdict()) + "\n")
    print("\n" + report(data))
    if quick:
        print("\nA quick run trains too little to be held to the bars.")
        return data
    found = bars(data)
    print("\n" + "\n".join(f"{'held  ' if held else 'MISSED'}  {text}" for text, held in found))
    if missed := [text for text, held in found if not held]:
        raise SystemExit(f"{len(missed)} bars are missed")
    return data


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Posteriors with known moments, beside NumPyro.")
    parser.add_argument("--quick", action="store_true", help="hardly trained")
    parser.add_argument("--only", nargs="+", choices=list(POSTERIORS))
    parser.add_argument("--methods", nargs="+")
    parser.add_argument("--json", dest="file", type=Path, help="where to write all figures")
    main(**vars(parser.parse_args()))
