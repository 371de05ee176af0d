"""Which test catches which mutant: exactly, and by the statistical tier alone.

python benchmarks/mutants.py [--statistical]
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import jax
import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from ppl.testing import check_unbiased
from tests.mutants import battery
from tests.mutants.mutants import MUTANTS
from tests.mutants.test_mutants import first_catch

SHOWN = 12
"""Random programs that the statistical tier sees."""


def statistically() -> tuple[str, int] | None:
    """What the statistical tier finds first."""
    options = {"method": "statistical", "max_draws": 2**17, "resolution": 0.03}
    for shown, name in enumerate(battery.FIXED, 1):
        if battery.check_fixed(name, **options).verdict == "biased":
            return name, shown
    for number, program in enumerate(battery.random_programs(SHOWN), 1):
        fresh = replace(program)
        answer = fresh.answer()
        mean = {"value": answer.value, "grad": answer.first}

        def draw(key: jax.Array, fresh: object = fresh) -> dict[str, jax.Array]:
            value, grad = fresh.expectation.value_and_grad(key, jax.numpy.asarray(program.theta))  # noqa: B023
            return {"value": value, "grad": grad}

        report = check_unbiased(
            draw, key=battery.KEY, against=mean, raises=False, max_draws=2**17, resolution=0.03
        )
        if report.verdict == "biased":
            return f"random program {number}", number + len(battery.FIXED)
    return None


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--statistical", action="store_true", help="the statistical tier too, which takes longer"
    )
    options = parser.parse_args()
    print("| mutant | exact: caught by | after programs |" + " drawn: caught by |" * options.statistical)
    print("| --- | --- | --- |" + " --- |" * options.statistical)
    started, caught, drawn = time.time(), 0, 0
    for mutant in MUTANTS:
        with mutant.make():
            found = first_catch()
            other = statistically() if options.statistical else None
        caught, drawn = caught + (found is not None), drawn + (other is not None)
        cells = [mutant.name, *(map(str, found) if found else ("nothing", "-"))]
        if options.statistical:
            cells.append(other[0] if other else "nothing")
        print(f"| {' | '.join(cells)} |", flush=True)
        jax.clear_caches()
    words = f", {drawn} by draws alone" if options.statistical else ""
    print(f"\n{caught} of {len(MUTANTS)} caught exactly{words}; {np.round(time.time() - started)} s")


if __name__ == "__main__":
    main()
