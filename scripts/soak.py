"""Check fresh random programs until the time is up; the first that fails is shrunk, printed and kept.

    python scripts/soak.py [--minutes 60] [--seed 1] [--order 2]

Exit status 1 if a program was biased, or was not refused as it must be.
"""

from __future__ import annotations

import argparse
import collections
import sys
import time

import jax
from hypothesis import HealthCheck, given, reject, seed, settings

from ppl.testing import NotIntegrable
from ppl.testing.programs import Program, programs, verify

BLOCK = 50


def block(number: int, order: int, seen: collections.Counter[str]) -> None:
    """Some programs of one seed.

    Raises:
        AssertionError: one of them fails; it is the smallest that was found.
    """

    @seed(number)
    @settings(max_examples=BLOCK, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(programs(size=5))
    def run(program: Program) -> None:
        try:
            report = verify(program, jax.random.key(number), order)
        except NotIntegrable:
            seen["too much noise to integrate over"] += 1
            reject()
        seen["refused as it must be" if program.error else report.verdict] += 1
        assert report.verdict == "unbiased", f"{program}\n{report}"

    run()


def main() -> int:
    """Run until the time is up."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--minutes", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=int(time.time()))
    parser.add_argument("--order", type=int, default=1, choices=(1, 2))
    options = parser.parse_args()
    jax.config.update("jax_disable_most_optimizations", True)
    print(f"seed {options.seed}", flush=True)
    started, seen, number = time.time(), collections.Counter[str](), options.seed
    while time.time() - started < 60 * options.minutes:
        try:
            block(number, options.order, seen)
        except AssertionError as failure:
            print(failure)
            print(f"found by --seed {number}; {dict(seen)}")
            return 1
        number += 1
        jax.clear_caches()  # nothing that was compiled is met again
        print(f"{time.time() - started:6.0f} s: {dict(seen)}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
