"""How often central posterior intervals hold the truth."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy import stats

from ppl.report.words import aligned


@dataclass(frozen=True)
class Coverage:
    """Nominal and empirical coverage of central intervals. `str` makes a table of it, `plot` a picture.

    Attributes:
        names: of the quantities, `Q` of them.
        nominal: the levels that intervals between order statistics of the draws have exactly; shape `(K,)`.
        empirical: the fraction of the replicates whose truth lies inside; shape `(Q, K)`.
        replicates: how many truths were counted for each quantity; shape `(Q,)`.
        rate: the probability that one of a right posterior's figures in the table leaves its band.
        shown: the levels that are in the table.
    """

    names: tuple[str, ...]
    nominal: np.ndarray
    empirical: np.ndarray
    replicates: np.ndarray
    rate: float
    shown: tuple[float, ...]

    def columns(self) -> list[int]:
        """The positions of the levels that are in the table."""
        return sorted({int(np.abs(self.nominal - level).argmin()) for level in self.shown})

    def band(self, quantity: int, rate: float | None = None) -> tuple[np.ndarray, np.ndarray]:
        """What empirical coverage may be by chance: binomial, at each level. By default as in the table."""
        count = int(self.replicates[quantity])
        each = self.rate / (len(self.names) * len(self.columns())) if rate is None else rate
        low, high = stats.binom.interval(1 - each, count, self.nominal)
        return low / count, high / count

    def __str__(self) -> str:
        columns = self.columns()
        rows = [["coverage", *(f"{100 * self.nominal[k]:.0f} %" for k in columns)]]
        for number, name in enumerate(self.names):
            low, high = self.band(number)
            row = [name]
            for k in columns:
                found = self.empirical[number, k]
                row.append(f"{100 * found:.1f} %{' ' if low[k] <= found <= high[k] else '*'}")
            rows.append(row)
        note = f"* outside what chance allows, in one figure or more with probability {self.rate:g}"
        return aligned(rows, right=range(1, len(columns) + 1)) + "\n" + note

    def plot(self) -> Any:
        """A Matplotlib figure: empirical less nominal coverage, with the 99 % band at each level.

        Raises:
            ImportError: Matplotlib is not installed; `pip install "ppl[plots]"` does that.
        """
        from ppl.testing.pictures import coverage_picture

        return coverage_picture(self)


def coverage_of(
    names: tuple[str, ...], ranks: list[np.ndarray], draws: int, rate: float, shown: tuple[float, ...]
) -> Coverage:
    """Coverage from ranks: the interval from the `a`-th draw to the `a`-th last holds the ranks `a..L-a`.

    Of a right posterior it holds the truth with probability `(L + 1 - 2a) / (L + 1)` exactly.
    """
    from_end = np.arange(draws // 2, 0, -1)
    nominal = (draws + 1 - 2 * from_end) / (draws + 1)
    inside = [((from_end[:, None] <= r) & (r <= draws - from_end[:, None])).mean(1) for r in ranks]
    return Coverage(names, nominal, np.stack(inside), np.asarray([len(r) for r in ranks]), rate, shown)
