"""The same staged program with other gradient estimators.

Every random choice is made anew as it stands, with the estimator that a function chooses for it; its
address, its distribution and so its draw stay what they are. The law: it is the program that names these
estimators itself.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.inner import expect_p
from ppl.transforms import jax_internals as internals
from ppl.transforms.interpret import walk
from ppl.transforms.naming import Name
from ppl.transforms.one_choice import Rebind, Reestimate
from ppl.transforms.position import Here, start
from ppl.transforms.run import Nest
from ppl.transforms.stage import Staged, split, stage


class _Reestimate(Nest):
    """The program around it, with the choices of this one made by other estimators."""

    def __init__(self, reestimate: Reestimate) -> None:
        super().__init__(Rebind((), True, reestimate))

    @override
    def expect(self, name: Name, equation: Any, operands: list[Any], here: Here) -> list[Any]:
        params, avals = equation.params, equation.params["jaxpr"].in_avals
        shapes = [jax.ShapeDtypeStruct(aval.shape, aval.dtype) for aval in avals]
        inner = jax.make_jaxpr(lambda *inputs: self.remade(params["jaxpr"], inputs))(*shapes)
        # Arrays of the new estimators come from outside of it.
        jaxpr, consts = internals.without_consts(inner)
        mapped = (*((False,) * len(params["lanes"]) for _ in consts), *params["mapped"])
        operands = [*map(jnp.asarray, consts), *operands]
        return expect_p.bind(*operands, **{**params, "jaxpr": jaxpr, "mapped": mapped})

    def remade(self, jaxpr: Any, arguments: Sequence[Any]) -> list[Any]:
        """The outputs of a staged program, its choices made anew."""
        return walk(jaxpr, arguments, self, start()).outputs


def reestimated(staged: Staged, reestimate: Reestimate) -> Staged:
    """A staged program with other estimators, in its inner expectations too.

    Args:
        staged: the program.
        reestimate: `(site, (distribution, estimator)) -> (estimator, changes to the site)`.
    """
    rule = _Reestimate(reestimate)

    def remade(*arrays: Any) -> Any:
        return staged.returned(rule.remade(staged.jaxpr, arrays))

    return stage(remade, split((tuple(staged.arrays), {})))
