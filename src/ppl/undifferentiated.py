"""Results whose derivative would be wrong refuse to be differentiated."""

from __future__ import annotations

from functools import partial
from typing import Any

import jax
from jax.core import Tracer

from ppl.errors import UnsupportedProgram
from ppl.transforms.stage import Staged

DRAWS = (
    "`simulate` and `generate` draw; the derivative of a draw is not that of its expected value. Write the "
    "expected value as a program of `@ppl.expectation`, and use its `grad` or `surrogate`."
)
"""Why what `simulate` and `generate` return is not differentiated."""


@partial(jax.custom_jvp, nondiff_argnums=(1,))
def undifferentiated(tree: Any, why: str) -> Any:
    """The same arrays; a derivative through them raises `UnsupportedProgram` with this explanation."""
    return tree


def fixed(staged: Staged, why: str) -> Staged:
    """The same staged program, its inputs and constants refusing derivatives."""

    def refuse(x: Any) -> Any:
        return undifferentiated(x, why) if isinstance(x, Tracer) else x

    consts = [refuse(x) for x in staged.jaxpr.consts]
    return staged._replace(
        jaxpr=staged.jaxpr.replace(consts=consts), arrays=[refuse(x) for x in staged.arrays]
    )


@undifferentiated.defjvp
def _refuse(why: str, primals: Any, tangents: Any) -> Any:
    raise UnsupportedProgram(why)
