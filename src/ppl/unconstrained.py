"""The latent choices of a target as one vector of real numbers."""

from __future__ import annotations

import math
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.address import Address, show
from ppl.bijection import bijection
from ppl.choices import Choices, merge
from ppl.compiled import compiled
from ppl.errors import UnsupportedProgram
from ppl.given import coerced, prepared
from ppl.measure import Measure
from ppl.program import Conditioned, Program
from ppl.site import Site
from ppl.source import user_line
from ppl.transforms.constrain import MADE, Constrain, estimated
from ppl.transforms.interpret import walk
from ppl.transforms.occurrences import Occurrence
from ppl.transforms.position import start
from ppl.transforms.stage import Staged
from ppl.transforms.trace_axes import from_trace, raw_axes, to_trace

_WAY_OUT = "condition on it, or move it by another kernel."


class Slot(NamedTuple):
    """Where one choice stands in the vector.

    Attributes:
        item: the choice.
        shape: of its real numbers, loops and lanes first, as in a trace.
        entries: their places.
        conditional: whether there are runs that do not make it.
    """

    item: Occurrence
    shape: tuple[int, ...]
    entries: slice
    conditional: bool


class Moved(NamedTuple):
    """A vector and the choices that it stands for.

    Attributes:
        vector: zero where a choice is not made.
        choices: the latent ones.
        log_det: the logarithm of the absolute Jacobian determinant, from the vector to the choices.
        made: which entries stand for choices that are made.
    """

    vector: jax.Array
    choices: Choices
    log_det: jax.Array
    made: jax.Array


class Unconstrained:
    """The latent choices of a target as one real vector; made by `unconstrained`.

    Attributes:
        target: the measure.
    """

    def __init__(self, target: Measure) -> None:
        self.target = target

    def __repr__(self) -> str:
        return f"unconstrained({self.target!r})"

    @property
    def size(self) -> int:
        """The number of entries."""
        return max((slot.entries.stop for slot in self.slots.values()), default=0)

    @property
    def dtype(self) -> Any:
        """The dtype of the vector: the default float."""
        return jnp.result_type(float)

    @property
    def slices(self) -> dict[str, slice]:
        """Which entries are those of each address, in the order of the program."""
        return {show(address): slot.entries for address, slot in self.slots.items()}

    @property
    def names(self) -> tuple[str, ...]:
        """A label for each entry: its address and, in an array, its index among the choice's real numbers."""
        labels = []
        for address, slot in self.slots.items():
            for place in range(slot.entries.stop - slot.entries.start):
                index = [int(i) for i in jnp.unravel_index(place, slot.shape)] if slot.shape else []
                labels.append(show(address) + (f"[{','.join(map(str, index))}]" if index else ""))
        return tuple(labels)

    @property
    def conditional(self) -> tuple[str, ...]:
        """The addresses of choices that some runs do not make."""
        return tuple(show(address) for address, slot in self.slots.items() if slot.conditional)

    @cached_property
    def slots(self) -> dict[Address, Slot]:
        """Where each choice stands."""
        staged, given = self._staged
        slots: dict[Address, Slot] = {}
        place = 0
        for address, items in staged.choices.items():
            if address in given:
                continue
            shapes = {_real_shape(item) for item in items}
            if len(shapes) > 1:
                raise UnsupportedProgram(
                    f"the choice {items[0].site.where} has supports of several dimensions in several "
                    f"branches, and so no one vector of real numbers ({items[1].site.source}). Use two "
                    "addresses."
                )
            item = items[0]
            raw = (*(length or 0 for length in item.lengths), *item.site.lanes)
            shape = (*(raw[axis] for axis in raw_axes(item)), *shapes.pop())
            conditional = any(item.branches or item.site.masked for item in items)
            slots[address] = Slot(item, shape, slice(place, place + math.prod(shape)), conditional)
            place += math.prod(shape)
        return slots

    @property
    def _staged(self) -> tuple[Staged, dict[Address, Any]]:
        """The target's program, and what of it is observed."""
        program, observed = split(self.target)
        staged = program.stage()
        return staged, prepared(staged, observed, complete=False)

    def constrain(self, vector: Any) -> tuple[Choices, jax.Array]:
        """The choices that a vector stands for, and `log |det d choices / d vector|`.

        A choice that the run does not make (one of a branch that is not taken) is zero, as in a trace, and
        its entries count for nothing.

        Raises:
            ChoiceShapeError, ChoiceDtypeError: no real vector of `size` entries.
        """
        moved = self.moved(vector)
        return moved.choices, moved.log_det

    def unconstrain(self, choices: Any) -> jax.Array:
        """The vector that stands for choices; entries of what is not made are zero.

        Raises:
            MissingChoice, UnusedChoice, ChoiceShapeError, ChoiceDtypeError: these are not the latent choices.
        """
        return self.moved_back(choices).vector

    def log_density(self, vector: Any, *, key: jax.Array | None = None) -> jax.Array:
        """The target's log density at the choices of a vector, with the change of variables: a scalar.

        Entries of choices that are not made have a standard normal density of their own, so that the whole
        is a density over all vectors, with the target's normalizer.

        Args:
            vector: of `size` entries.
            key: of the estimate, where an observed choice has an estimated density.
        """
        return compiled(_log_density, self, self._checked(vector), key)

    def moved(self, vector: Any) -> Moved:
        """What a vector stands for."""
        return compiled(_forward, self, self._checked(vector))

    def moved_back(self, choices: Any) -> Moved:
        """What stands for choices."""
        return compiled(_backward, self, Choices(choices))

    def _checked(self, vector: Any) -> jax.Array:
        return coerced(vector, (self.size,), self.dtype, f"the vector of {self!r}")


jax.tree_util.register_pytree_node(
    Unconstrained, lambda u: ((u.target,), None), lambda _, children: Unconstrained(*children)
)


def unconstrained(target: Measure) -> Unconstrained:
    """The latent choices of a target as one real vector, by NumPyro's bijections.

    The layout: addresses in the order of the program, the real numbers of each raveled in the order of a
    trace (loops and lanes first). A choice on a simplex of `k` entries has `k - 1` real numbers; most have as
    many as they have entries. Both directions run the target's code: choices may lie in lanes, loops and
    branches, and supports depend on earlier choices.

    It is a pytree, and its methods work inside and outside programs, under `jit`, `vmap` and `grad`.

    Args:
        target: a conditioned program, or one without observations.

    Raises:
        TypeError: the target is no program.
        UnsupportedProgram: a latent choice is discrete, or has an estimated density.

    Example:
        >>> import jax, jax.numpy as jnp, ppl
        >>> @ppl.gen
        ... def model():
        ...     scale = ppl.gamma(2.0, 1.0) @ "scale"
        ...     top = ppl.uniform(0.0, scale) @ "top"
        ...     ppl.normal(top, 1.0) @ "y"
        >>> latent = ppl.unconstrained(model().condition({"y": 0.5}))
        >>> latent.size, latent.names
        (2, ('scale', 'top'))
        >>> choices, log_det = latent.constrain(jnp.array([0.0, 0.0]))
        >>> float(choices["scale"]), float(choices["top"])
        (1.0, 0.5)
        >>> latent.unconstrain({"scale": 1.0, "top": 0.5}).round(3) + 0.0
        Array([0., 0.], dtype=float32)
        >>> jax.grad(latent.log_density)(jnp.zeros(2)).shape
        (2,)

    Reference: Carpenter, Gelman, Hoffman et al., "Stan: a probabilistic programming language", 2017.
    """
    split(target)
    latent = Unconstrained(target)
    _ = latent.slots
    return latent


def split(target: Measure, what: str = "unconstrained") -> tuple[Program, Choices]:
    """The program of a target, and what of it is observed; `what` asks for it, for the message.

    Raises:
        TypeError: the target is no program.
    """
    program = target.program if isinstance(target, Conditioned) else target
    if not isinstance(program, Program):
        raise TypeError(
            f"{what} takes a generative function applied to its arguments, conditioned or not, got "
            f"{target!r} ({user_line()})"
        )
    return program, target.observed if isinstance(target, Conditioned) else Choices()


def _real_shape(item: Occurrence) -> tuple[int, ...]:
    """The shape of the real numbers of one lane and step."""
    if item.is_joint:
        raise estimated(item.site)
    found: list[tuple[int, ...]] = []

    def note(distribution: Any) -> None:  # a support may depend on arrays, which are not known here
        found.append(tuple(_bijection(item.site, distribution).inverse_shape(item.site.shape)))

    jax.eval_shape(note, item.distribution)
    return found[0]


def _bijection(site: Site, distribution: Any) -> Any:
    return bijection(site, distribution, _WAY_OUT)


def _rule(latent: Unconstrained, given: dict[Address, Any], *, inverse: bool) -> Constrain:
    shapes = {address: _own(slot) for address, slot in latent.slots.items()}
    return Constrain(frozenset(given), shapes, _bijection, inverse=inverse)


def _own(slot: Slot) -> tuple[int, ...]:
    return slot.shape[len(raw_axes(slot.item)) :]


def _records(latent: Unconstrained, result: Any) -> tuple[dict[Address, Any], jax.Array]:
    """The recorded arrays as a trace holds them, and which entries of the vector are made."""
    arrays, made = {}, [jnp.ones(0, bool)]
    for address, slot in latent.slots.items():
        arrays[address] = to_trace(slot.item, result.records[address])
        there = to_trace(slot.item, result.records[address, MADE])
        there = there.reshape(*there.shape, *(1,) * len(_own(slot)))
        made.append(jnp.broadcast_to(there, slot.shape).ravel())
    return arrays, jnp.concatenate(made)


def _forward(latent: Unconstrained, vector: jax.Array) -> Moved:
    staged, feed = latent._staged
    rule = _rule(latent, feed, inverse=False)
    for address, slot in latent.slots.items():
        feed[address] = from_trace(slot.item, vector[slot.entries].reshape(slot.shape))
    result = walk(staged.jaxpr, staged.arrays, rule, start(feed=feed))
    choices, made = _records(latent, result)
    return Moved(vector, Choices(choices), result.totals["log_det"], made)


def _backward(latent: Unconstrained, choices: Choices) -> Moved:
    staged, given = latent._staged
    _, observed = split(latent.target)
    feed = prepared(staged, merge(observed, choices), complete=True)
    result = walk(staged.jaxpr, staged.arrays, _rule(latent, given, inverse=True), start(feed=feed))
    arrays, made = _records(latent, result)
    parts = [jnp.zeros(0, latent.dtype), *(x.astype(latent.dtype).ravel() for x in arrays.values())]
    return Moved(jnp.concatenate(parts), choices, result.totals["log_det"], made)


def _log_density(latent: Unconstrained, vector: jax.Array, key: jax.Array | None) -> jax.Array:
    moved = _forward(latent, vector)
    return latent.target.log_density(moved.choices, key=key) + moved.log_det + inert(vector, moved.made)


def inert(vector: jax.Array, made: jax.Array) -> jax.Array:
    """The log density of the entries that stand for no choice that is made."""
    return jnp.sum(jnp.where(made, 0.0, jax.scipy.stats.norm.logpdf(vector)))
