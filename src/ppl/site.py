"""The random choice: one primitive, and the static record that travels with it.

`sample_p` is what a staged program holds for each random choice. Its operands are the arrays of a
NumPyro distribution and of a gradient estimator; everything else is in a `Site`. The primitive has
no meaning of its own: an interpreter of `ppl.transforms` gives it one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
from jax.core import ShapedArray
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ppl.address import Address, show
from ppl.errors import ChoiceOutsideProgram, UnsupportedProgram


def in_lanes(
    function: Callable[..., Any], lanes: Sequence[int], mapped: Sequence[Sequence[bool]], inputs: list[Any],
    *values: Any,
) -> Any:  # fmt: skip
    """`function(inputs, *values)` in each lane.

    `mapped` says which of the lane axes each input carries, in front and in order; values carry all of them.
    """
    for axis in reversed(range(len(lanes))):
        axes = [0 if carried[axis] else None for carried in mapped]
        function = jax.vmap(function, in_axes=(axes, *(0 for _ in values)), axis_size=lanes[axis])
    return function(inputs, *values)


@dataclass(frozen=True, eq=False)
class Site:
    """What is known of a random choice when its program is staged.

    Attributes:
        address: the path of its address.
        recorded: whether its value is part of the trace of the program that holds it.
        family: the family's name, for messages and for `using`.
        tree: rebuilds `(distribution, estimator)` from the operands.
        shape, dtype: of the value in one lane: batch axes of the parameters, then the event.
        batch_shape: the leading part of `shape` that is independent draws.
        source: the user's line.
        lanes: sizes of the axes that `jax.vmap` added, outermost first.
        levels: for each lane axis, how many enclosing loops it lies outside of.
        mapped: for each operand, which of the lane axes it carries (in front, in order).
        loops: how many loops enclosed the choice when it was last mapped.
        masked: whether the last operand says in which lanes the choice is made at all.
        branches: the branches of mapped conditionals that it lies in, as (conditional, branch).
        path: the address with a `None` for each loop that lies between its components; the loops
            that are missing from it lie outside all of them.
        support: the values of one instance, where they are finitely many and known.
        phantoms: how many other values the estimator asks for at each instance.
        score: from which order of derivative on the estimator has a score; zero for never.
        baseline: whether the estimator has a baseline that is known at the choice.
        control: whether the estimator has a control variate.
        excess: from which order of derivative on the estimator has an excess; zero for never.
        exact: of a joint choice, whether its density is no estimate, and no end of its support moves.
    """

    address: Address
    recorded: bool
    family: str
    tree: Any
    shape: tuple[int, ...]
    dtype: Any
    batch_shape: tuple[int, ...]
    source: str
    lanes: tuple[int, ...] = ()
    levels: tuple[int, ...] = ()
    mapped: tuple[tuple[bool, ...], ...] = ()
    loops: int = 0
    masked: bool = False
    branches: tuple[tuple[int, int], ...] = ()
    path: tuple[str | None, ...] = ()
    support: Any = None
    phantoms: int = 0
    score: int = 0
    baseline: bool = False
    control: bool = False
    excess: int = 0
    exact: bool = False

    def __repr__(self) -> str:
        return f"{self.family} @ {show(self.address)!r}"

    @property
    def where(self) -> str:
        """The address and line, as messages name the choice."""
        name = repr(show(self.address)) if self.address != UNNAMED else "an unnamed choice"
        return f"{name} ({self.family}, {self.source})"

    @property
    def instances(self) -> tuple[int, ...]:
        """The shape of the independent draws at this choice: lanes, then batch axes."""
        return (*self.lanes, *self.batch_shape)

    def excludes(self, other: Site) -> bool:
        """Whether the two lie in different branches of one mapped conditional."""
        mine = dict(self.branches)
        return any(mine.get(conditional, branch) != branch for conditional, branch in other.branches)

    def split(self, operands: Sequence[Any]) -> tuple[list[Any], Any]:
        """The operands without the mask, and the mask (`None` if there is none)."""
        return (list(operands[:-1]), operands[-1]) if self.masked else (list(operands), None)

    def per_lane(self, function: Callable[..., Any], operands: Sequence[Any], *values: Any) -> Any:
        """`function(distribution, estimator, *values)` in each lane; values carry every lane axis."""
        leaves, _ = self.split(operands)

        def one(leaves, *values):
            distribution, estimator = jax.tree.unflatten(self.tree, leaves)
            return function(distribution, estimator, *values)

        return in_lanes(one, self.lanes, self.mapped[: len(leaves)], leaves, *values)

    def one_lane(self, operands: Sequence[Any]) -> tuple[Any, Any]:
        """`(distribution, estimator)` of one lane, as shapes and dtypes."""
        leaves, _ = self.split(operands)
        lanes = [sum(mapped) for mapped in self.mapped] or [0] * len(leaves)
        shapes = [jax.ShapeDtypeStruct(x.shape[n:], x.dtype) for x, n in zip(leaves, lanes, strict=False)]
        return jax.tree.unflatten(self.tree, shapes)

    def mask_over(self, operands: Sequence[Any], shape: tuple[int, ...]) -> Any:
        """The mask with every lane axis, ready to broadcast against `shape` after the lanes."""
        _, mask = self.split(operands)
        if mask is None:
            return None
        carried = self.mapped[-1]
        index = tuple(slice(None) if here else None for here in carried)
        mask = jnp.broadcast_to(mask[index], self.lanes)
        return mask.reshape(*self.lanes, *(1 for _ in shape))


UNNAMED: Address = ("<draw>",)
"""The address under which choices without one are counted."""

sample_p = Primitive("sample")


@sample_p.def_abstract_eval
def _abstract(*operands: Any, site: Site) -> Any:
    return ShapedArray((*site.lanes, *site.shape), site.dtype)


def _outside(*operands: Any, site: Site) -> Any:
    raise ChoiceOutsideProgram(
        f"the choice {site.where} was made outside any program. Inside a @ppl.gen or @ppl.expectation "
        "function a choice is `family(...) @ 'address'`; outside, draw with "
        "`family(...).simulate(key).retval`."
    )


sample_p.def_impl(_outside)
mlir.register_lowering(sample_p, lambda ctx, *operands, site: _outside(site=site))


def _batch(axis_data: Any, operands: Any, dims: Any, *, site: Site) -> Any:
    """`jax.vmap` makes a choice one choice with a lane axis, mapped parameters or not."""
    operands = [x if d is None else jnp.moveaxis(x, d, 0) for x, d in zip(operands, dims, strict=True)]
    mapped = site.mapped or ((),) * len(operands)
    site = replace(
        site,
        lanes=(axis_data.size, *site.lanes),
        levels=(site.loops, *site.levels),
        mapped=tuple((d is not None, *rest) for d, rest in zip(dims, mapped, strict=True)),
    )
    return sample_p.bind(*operands, site=site), 0


batching.fancy_primitive_batchers[sample_p] = _batch


def _differentiated(primals: Any, tangents: Any, *, site: Site) -> Any:
    raise UnsupportedProgram(
        f"the choice {site.where} lies inside a function that the program itself differentiates "
        "(jax.grad, jax.jvp or jax.linearize), so its parameters would move under the derivative. "
        "Draw the choice outside the differentiated function and pass its value in."
    )


ad.primitive_jvps[sample_p] = _differentiated


def add_mask(
    site: Site, operands: Sequence[Any], mask: Any, branch: tuple[int, int] | None
) -> tuple[Site, list[Any]]:
    """The choice made only where `mask` holds too; `mask` carries none of the site's lanes."""
    leaves, old = site.split(operands)
    mapped = site.mapped or ((),) * len(operands)
    branches = site.branches if branch is None else (*site.branches, branch)
    if old is None:
        carried = (False,) * len(site.lanes)
        return replace(site, masked=True, mapped=(*mapped, carried), branches=branches), [*leaves, mask]
    return replace(site, branches=branches), [*leaves, jnp.logical_and(old, mask)]
