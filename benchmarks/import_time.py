"""What `import ppl` costs, against what it stands on: `import jax, numpyro.distributions`.

Fresh interpreters in turns. The bar is a ratio of 1.3.

    python benchmarks/import_time.py [--repeats 9]
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import time

from _timing import table

STATEMENTS = ("import jax, numpyro.distributions", "import ppl", "import genjax")
BAR = 1.3


def seconds(statement: str) -> float:
    """Wall-clock time of a fresh interpreter that runs one statement."""
    began = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True, capture_output=True)
    return time.perf_counter() - began


def main(repeats: int) -> None:
    times: dict[str, list[float]] = {statement: [] for statement in STATEMENTS}
    for turn in range(repeats + 1):
        for statement in STATEMENTS:
            taken = seconds(statement)
            if turn:  # the first round fills the caches of the disk
                times[statement].append(taken)
    medians = {statement: statistics.median(taken) for statement, taken in times.items()}
    base = medians[STATEMENTS[0]]
    rows = [(statement, f"{m:.2f}", f"{m / base:.2f}") for statement, m in medians.items()]
    print(f"Imports, median of {repeats} fresh interpreters; the bar for ppl is {BAR}")
    print(table(("statement", "s", "ratio"), rows))


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=9)
    main(**vars(parser.parse_args()))
