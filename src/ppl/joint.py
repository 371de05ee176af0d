"""The primitive of a joint choice: several values drawn together, with one density, mostly estimated.

A marginal or a normalized measure draws values at its addresses from choices that stay hidden, and has no
density in closed form; a guide over a vector has one of all its choices (`Site.exact`). In a staged program
it is one equation with two programs, of which an interpreter runs one:

- `draw`, from the operands: values, and an estimate whose reciprocal is unbiased for that of their density;
- `score`, from the operands and given values: the logarithm of an unbiased estimate of their density.

Each makes its own hidden choices. Like a random choice the equation has no meaning of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ppl.errors import ChoiceOutsideProgram, UnsupportedProgram
from ppl.site import Site, add_mask

joint_p = Primitive("joint")
joint_p.multiple_results = True

Sites = tuple[Site, ...]
"""A record of each value; they agree in their lanes and in what the operands carry of them."""


@joint_p.def_abstract_eval
def _abstract(*operands: Any, draw: Any, score: Any, sites: Sites) -> Any:
    return [ShapedArray((*site.lanes, *site.shape), site.dtype) for site in sites]


def _outside(*operands: Any, sites: Sites, **params: Any) -> Any:
    raise ChoiceOutsideProgram(
        f"the choice {sites[0].where} was made outside any program. Outside, draw by `simulate(key)`."
    )


joint_p.def_impl(_outside)
mlir.register_lowering(joint_p, lambda ctx, *operands, **params: _outside(**params))


def _batch(axis_data: Any, operands: Any, dims: Any, *, draw: Any, score: Any, sites: Sites) -> Any:
    operands = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(operands, dims, strict=True)]
    mapped = sites[0].mapped or ((),) * len(operands)
    carried = tuple((d is not None, *rest) for d, rest in zip(dims, mapped, strict=True))
    sites = tuple(
        replace(site, lanes=(axis_data.size, *site.lanes), levels=(site.loops, *site.levels), mapped=carried)
        for site in sites
    )
    outputs = joint_p.bind(*operands, draw=draw, score=score, sites=sites)
    return outputs, [0] * len(outputs)


batching.fancy_primitive_batchers[joint_p] = _batch


def _differentiated(primals: Any, tangents: Any, *, sites: Sites, **params: Any) -> Any:
    raise UnsupportedProgram(
        f"the choice {sites[0].where} lies inside a function that the program itself differentiates "
        "(jax.grad, jax.jvp or jax.linearize), so its parameters would move under the derivative. "
        "Draw the choice outside the differentiated function and pass its value in."
    )


ad.primitive_jvps[joint_p] = _differentiated


def masked(
    sites: Sites, operands: list[Any], mask: Any, branch: tuple[int, int] | None
) -> tuple[Sites, list[Any]]:
    """The joint choice made only where `mask` holds too; `mask` carries none of the sites' lanes."""
    made = [add_mask(site, operands, mask, branch) for site in sites]
    return tuple(site for site, _ in made), made[0][1]


@contextlib.contextmanager
def needs_key(measure: Any) -> Iterator[None]:
    """Explains hidden choices that were made outside any program, in an estimate of a density."""
    try:
        yield
    except ChoiceOutsideProgram as error:
        raise ChoiceOutsideProgram(
            f"the density of {measure!r} is estimated, by choices of its own: outside a program give them a "
            "key, `measure.log_density(choices, key=key)`."
        ) from error
