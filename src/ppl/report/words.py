"""A variance report as a table and advice."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ppl.report.compare import Comparison, compare
from ppl.report.measure import Measurement

if TYPE_CHECKING:
    from ppl.report.variance import Alternative, Choice, VarianceReport


def text(report: VarianceReport) -> str:
    """The report as aligned tables, and its advice choice by choice."""
    whole = report.gradient
    head = (
        f"gradient of one run: variance {_measured(whole)}, signal to noise {whole.signal_to_noise:.2g}, "
        f"{_seconds(whole.time)}\n"
        f"({report.num_runs} estimates of {_count(report.num_samples, 'run')} each)"
    )
    sections = [head, _parts(report)]
    if len(report.parameters) > 1:
        sections.append(_parameters(report))
    if any(choice.alternatives for choice in report.choices):
        words = [advice(choice, whole) for choice in report.choices]
        sections += [_alternatives(report), "\n".join(words + _on_direct(report))]
    return "\n\n".join(sections)


def _parts(report: VarianceReport) -> str:
    rows = [["choice", "family", "estimator", "variance", "share", "signal to noise"]]
    for choice in report.choices:
        rows.append([choice.address, choice.family, choice.estimator, *_part(choice.part, choice.share)])
    whole = report.gradient.variance
    share = report.direct.variance / whole if whole else 0.0
    rows.append(["(direct)", "", "", *_part(report.direct, share)])
    return aligned(rows, right=(3, 4, 5))


def _part(part: Measurement, share: float) -> list[str]:
    return [_measured(part), f"{100 * share:.0f} %", f"{part.signal_to_noise:.2g}"]


def _parameters(report: VarianceReport) -> str:
    rows = [["parameter", "variance", "signal to noise"]]
    for number, name in enumerate(report.parameters):
        noise = report.gradient.signal_to_noise_of(number)
        rows.append([name, f"{report.gradient.variances[number]:.3g}", f"{noise:.2g}"])
    return aligned(rows, right=(1, 2))


def _alternatives(report: VarianceReport) -> str:
    rows = [["choice", "instead", "variance", "time", "variance x time"]]
    notes = []
    for choice in report.choices:
        for other in choice.alternatives:
            if other.measurement is None:
                notes.append(f"{choice.address}: {other.name} is refused: {other.refused}")
                continue
            ratio = compare(other.measurement, report.gradient)
            name = f"{other.name} (biased)" if other.estimator.biased else other.name
            rows.append(
                [choice.address, name, _times(ratio.variance), _times(ratio.effort), _times(ratio.cost)]
            )
    table = [aligned(rows, right=(2, 3, 4))] if len(rows) > 1 else []
    return "\n".join([*table, *notes])


def best(choice: Choice, whole: Measurement) -> tuple[Alternative, Comparison] | None:
    """The unbiased alternative with the least variance times time, if it is better than what is there."""
    ratios = [
        (other, compare(other.measurement, whole))
        for other in choice.alternatives
        if other.measurement is not None and not other.estimator.biased
    ]
    better = [(other, ratio) for other, ratio in ratios if ratio.is_better]
    return min(better, key=lambda pair: pair[1].cost) if better else None


def advice(choice: Choice, whole: Measurement) -> str:
    """What to do about a choice, in words."""
    begin = f"{choice.address}: {100 * choice.share:.0f} % of the variance; "
    found = best(choice, whole)
    if found is None:
        tried = [other for other in choice.alternatives if other.measurement is not None]
        return begin + f"keep {choice.estimator}" + (
            ", nothing that was tried is better." if tried else ", there is nothing else to try."
        )  # fmt: skip
    other, ratio = found
    return begin + f"{other.name} {_gain(ratio)}."


def _on_direct(report: VarianceReport) -> list[str]:
    """A line on the direct part, if it is most of the variance."""
    if report.direct.variance <= report.gradient.variance / 2:
        return []
    share = 100 * report.direct.variance / report.gradient.variance
    return [
        f"(direct): {share:.0f} % of the variance is that of the result's own derivative in the parameters; "
        "no estimator changes it, another objective may."
    ]


def _gain(ratio: Comparison) -> str:
    if 0.9 < ratio.effort < 1.1:
        effort = "in the same time"
    else:
        effort = f"{'for' if ratio.effort > 1 else 'in'} {ratio.effort:.2g} times the time"
    if ratio.variance == 0:
        return f"would leave no variance, {effort}"
    if ratio.variance <= 0.5:
        return f"would cut the gradient's variance {1 / ratio.variance:.2g}-fold {effort}"
    if ratio.variance < 0.95:
        return f"would cut the gradient's variance by {100 * (1 - ratio.variance):.0f} % {effort}"
    if ratio.variance <= 1.05:
        return f"would have the same variance {effort}"
    return f"would have {ratio.variance:.2g} times the variance {effort}"


def first_sentence(message: str) -> str:
    """The first sentence of an error's message, on one line."""
    line = " ".join(message.split())
    return re.split(r"(?<=[.!?])\s+(?=[A-Z`])", line, maxsplit=1)[0]


def _measured(measurement: Measurement) -> str:
    if measurement.variance == 0 or not math.isfinite(measurement.variance):
        return f"{measurement.variance:.3g}"
    return f"{measurement.variance:.3g} ± {measurement.error:.1g}"


def _seconds(seconds: float) -> str:
    for unit, size in (("s", 1.0), ("ms", 1e-3)):
        if seconds >= size:
            return f"{seconds / size:.3g} {unit}"
    return f"{seconds / 1e-6:.3g} µs"


def _times(ratio: float) -> str:
    return f"× {ratio:.3g}" if ratio < 100 else f"× {ratio:.0f}"


def _count(number: int, what: str) -> str:
    return f"{number} {what}" if number == 1 else f"{number} {what}s"


def aligned(rows: Sequence[Sequence[str]], right: Sequence[int]) -> str:
    """Rows with aligned columns, a line under the first; columns in `right` are flush right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]

    def line(row: Sequence[str]) -> str:
        cells = [
            cell.rjust(width) if i in right else cell.ljust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        return "  ".join(cells).rstrip()

    return "\n".join([line(rows[0]), "  ".join("-" * width for width in widths), *map(line, rows[1:])])
