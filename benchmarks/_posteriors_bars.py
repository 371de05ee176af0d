"""What the figures of `posteriors.py` must reach: each bar with what was found, and whether it is held."""

from __future__ import annotations

from _posteriors_method import Cell
from _posteriors_report import Rows

Judged = list[tuple[str, bool]]

EXACT = {
    "ASVI": ("coin", "counts", "local level"),
    "full rank": ("regression", "local level"),
    "Laplace": ("regression", "local level"),
    "importance": ("coin", "counts", "two modes", "banana"),
    "SMC": ("local level",),
    "tempered": (
        "coin", "counts", "regression", "unknown noise", "eight schools, apart", "logistic", "banana",
        "two modes", "change point",
    ),
    "NUTS": (
        "coin", "counts", "regression", "unknown noise", "local level", "eight schools, apart", "logistic",
        "volatility", "change point",
    ),
}  # fmt: skip
"""Where a method is right but for the noise of its draws."""

EXACT_BAR = 0.1
"""Standard deviations that such a method may be off, in its worst entry."""

OPTIMUM_BAR = 0.1
"""How far the errors of a trained family may be from those of its best member; a standard deviation of
200,000 draws with a long tail (a log-normal scale) is itself off by some 0.02."""

SLACK = 0.1
"""How much further than NumPyro's same method ours may be off: both are trained by noisy steps."""

SCANS = ("local level", "volatility")
REFUSED = {
    "full rank": ("change point",),
    "low rank": ("change point",),
    "Laplace": ("change point", "eight schools"),
    "flow": ("change point",),
    "Pathfinder": ("change point",),
}
"""What ours are not for: a discrete choice, a density without a mode. `SMC` is for programs with a loop."""


def failures(found: Rows) -> Judged:
    """None of ours may end in an error that is no refusal."""
    own = _own(found)
    failed = [f"{name}, {method}: {cell.reason}" for name, method, cell in own if cell.failed]
    return [(text, False) for text in failed] or [(f"{len(own)} cells of ours without an error", True)]


def bars(found: Rows) -> Judged:
    return refusals(found) + exact(found) + near_optimum(found) + beside_numpyro(found)


def refusals(found: Rows) -> Judged:
    """What is refused is what should be, and the rest has finite figures."""
    wrong = [
        f"{name}, {method}: {cell.reason or 'not refused'}"
        for name, method, cell in _own(found)
        if bool(cell.reason) != _refused(name, method)
    ]
    return [(text, False) for text in wrong] or [("refused is what should be, and nothing else", True)]


def _refused(name: str, method: str) -> bool:
    return name not in SCANS if method == "SMC" else name in REFUSED.get(method, ())


def exact(found: Rows) -> Judged:
    """Where a method can be right, it is."""
    return [
        (f"{name}, {method}: {_both(cell)}, at most {EXACT_BAR}", max(cell.mean, cell.sd) < EXACT_BAR)
        for name, method, cell in _own(found)
        if name in EXACT.get(method, ())
    ]


def near_optimum(found: Rows) -> Judged:
    """A trained guide is as far off as the best of its family."""
    judged = []
    for name, method, own in _own(found):
        best = found[name]["cells"][method].get("optimum")
        if best is not None and not best.reason:
            near = max(abs(own.mean - best.mean), abs(own.sd - best.sd)) < OPTIMUM_BAR
            text = f"{name}, {method}: {_both(own)}; the family's best {_both(best)}, within {OPTIMUM_BAR}"
            judged.append((text, near))
    return judged


CHAINS_WORTH = 1 / 3
"""Of NumPyro's effective draws, those of our chains are at least this share; both numbers are estimates."""


def beside_numpyro(found: Rows) -> Judged:
    """Nowhere worse than NumPyro's same method by more than noise."""
    judged = []
    for name, method, own in _own(found):
        other = found[name]["cells"][method].get("NumPyro")
        refused = own.reason and not own.failed
        if other is not None and not other.reason and not refused:
            slack = max(SLACK, noise(own, other))
            close = max(own.mean - other.mean, own.sd - other.sd) < slack
            text = f"{name}, {method}: {_both(own)}; NumPyro's {_both(other)}, at most {slack:.2g} better"
            judged.append((text, close))
            if own.effective == own.effective:
                text = f"{name}, {method}: worth {own.effective:.0f} draws, NumPyro's {other.effective:.0f}"
                judged.append((text, own.effective >= CHAINS_WORTH * other.effective))
    return judged


def noise(own: Cell, other: Cell) -> float:
    """Three standard errors of the difference of two means, where chains say what their draws are worth.

    Chains that hardly mix, as between two modes, are far off by chance in either library.
    """
    known = [cell.effective for cell in (own, other) if cell.effective == cell.effective]
    return 3 * sum(1 / n for n in known) ** 0.5


def _own(found: Rows) -> list[tuple[str, str, Cell]]:
    return [
        (name, method, cells["ppl"])
        for name, row in found.items()
        for method, cells in row["cells"].items()
        if "ppl" in cells
    ]


def _both(cell: Cell) -> str:
    return f"mean {cell.mean:.3f}, sd {cell.sd:.3f}"
