"""A staged program without joint choices: each replaced by the choices that draw it.

An expectation needs values alone, not the density of what it draws.
"""

from __future__ import annotations

from typing import Any, override

from ppl.joint import joint_p
from ppl.transforms import jax_internals as internals
from ppl.transforms.hidden import drawn
from ppl.transforms.interpret import Joint, walk
from ppl.transforms.one_choice import Rebind
from ppl.transforms.position import Here, start
from ppl.transforms.run import Nest
from ppl.transforms.stage import Staged, split, stage

_HIDDEN = Rebind((), False)


class _Inline(Nest):
    @override
    def joint(self, equation: Any, operands: list[Any], here: Here) -> Joint:
        return Joint(drawn(equation, operands, _HIDDEN, here).values)


def inlined(staged: Staged) -> Staged:
    """The staged program without joint choices."""
    if not internals.holds(staged.jaxpr, frozenset({joint_p})):
        return staged

    def run(*arrays: Any) -> Any:
        return staged.returned(walk(staged.jaxpr, arrays, _Inline(Rebind((), True)), start()).outputs)

    return stage(run, split((tuple(staged.arrays), {})))
