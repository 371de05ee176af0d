"""Results whose derivative would be wrong refuse to be differentiated."""

from __future__ import annotations

from typing import Any

from jax.core import Tracer

from ppl.refusal import undifferentiated
from ppl.transforms.stage import Staged

__all__ = ["DRAWS", "fixed", "undifferentiated"]

DRAWS = (
    "`simulate` and `generate` draw; the derivative of a draw is not that of its expected value. Write the "
    "expected value as a program of `@ppl.expectation`, and use its `grad` or `surrogate`."
)
"""Why what `simulate` and `generate` return is not differentiated."""


def fixed(staged: Staged, why: str) -> Staged:
    """The same staged program, its inputs and constants refusing derivatives."""

    def refuse(x: Any) -> Any:
        return undifferentiated(x, why) if isinstance(x, Tracer) else x

    consts = [refuse(x) for x in staged.jaxpr.consts]
    return staged._replace(
        jaxpr=staged.jaxpr.replace(consts=consts), arrays=[refuse(x) for x in staged.arrays]
    )
