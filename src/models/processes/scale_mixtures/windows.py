"""Nine macroeconomic series of the United States, by quarter, cut into windows of three years.

Growth rates (differences, of what is a rate already), standardized by the first hundred quarters. Windows of
the early half are tasks to learn from; the late half, from 1984 on, is the "great moderation".
"""

from __future__ import annotations

import numpy as np

SERIES = ("realgdp", "realcons", "realinv", "realgovt", "realdpi", "cpi", "m1", "tbilrate", "unemp")
RATES = ("tbilrate", "unemp")
QUARTERS, LENGTH, EACH = 100, 12, 8


def growth() -> np.ndarray:
    """Standardized growth, (9, 202)."""
    from statsmodels.datasets import macrodata

    table = macrodata.load_pandas().data
    rows = [np.diff(table[name] if name in RATES else np.log(table[name])) for name in SERIES]
    early = np.stack(rows)[:, :QUARTERS]
    return (np.stack(rows) - early.mean(1, keepdims=True)) / early.std(1, keepdims=True)


def windows() -> tuple[np.ndarray, np.ndarray]:
    """Seventy-two windows that end with the hundredth quarter, and as many that begin after it: (72, 12)."""
    series = growth()
    cut = lambda part: part.reshape(len(SERIES) * EACH, LENGTH).astype(np.float32)
    begin = QUARTERS - EACH * LENGTH
    return cut(series[:, begin:QUARTERS]), cut(series[:, QUARTERS : QUARTERS + EACH * LENGTH])


def times() -> np.ndarray:
    """The quarters of a window, as inputs of a network: (12, 1)."""
    return np.linspace(-1.0, 1.0, LENGTH, dtype=np.float32)[:, None]
