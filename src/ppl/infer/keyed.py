"""Running a program of hidden choices by a key."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax

from ppl.transforms.hidden import Hidden
from ppl.transforms.interpret import walk
from ppl.transforms.position import start
from ppl.transforms.stage import split, stage
from ppl.undifferentiated import DRAWS, fixed


def keyed(program: Callable[[], Any], key: jax.Array) -> Any:
    """What a program returns, its choices drawn by a key; it refuses to be differentiated."""
    staged = fixed(stage(program, split(((), {}))), DRAWS)
    here = start(key, jaxpr=staged.jaxpr)
    return staged.returned(walk(staged.jaxpr, staged.arrays, Hidden(None), here).outputs)
