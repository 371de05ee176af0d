"""What every ready-made guide is: a function from parameters to a measure over a target's latent choices."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any

import jax
import jax.numpy as jnp
from jax.flatten_util import ravel_pytree

from ppl.errors import UnsupportedProgram
from ppl.given import coerced
from ppl.guides.start import finite_start
from ppl.measure import Measure
from ppl.source import user_line
from ppl.unconstrained import split


class Family(ABC):
    """A guide of a target: called with parameters it gives a measure over the target's latent choices.

    Attributes:
        target: a conditioned program, or one without observations.
    """

    def __init__(self, target: Measure) -> None:
        split(target, type(self).__name__)
        self.target = target
        _ = self.blank

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.target!r})"

    def __call__(self, params: Any) -> Measure:
        """The guide with these parameters, a measure over the latent choices.

        Raises:
            UnsupportedProgram: these are no parameters of this guide, or of other shapes.
        """
        wanted, got = _shapes(self.blank), _shapes(params)
        if wanted != got:
            raise UnsupportedProgram(
                f"the parameters of {self!r} are {_listed(wanted, got)}; got {_listed(got, wanted)} "
                f"({user_line()}). Take them from `initial(key)`."
            )
        return self.measure(params)

    @abstractmethod
    def measure(self, params: Any) -> Measure:
        """The guide with these parameters, which are right in number and shape."""

    @property
    @abstractmethod
    def blank(self) -> Any:
        """Shapes and dtypes of the parameters, a pytree of `jax.ShapeDtypeStruct`."""

    @abstractmethod
    def _start(self, key: jax.Array, radius: jax.Array, scale: float) -> Any:
        """Parameters with locations at most `radius` from zero in unconstrained space."""

    def initial(self, key: jax.Array, scale: float = 0.1) -> Any:
        """Parameters at which the target's log density and its derivative are finite at a draw.

        Locations are uniform between -2 and 2, nearer to zero with every attempt that fails.

        Args:
            key: of the locations.
            scale: the standard deviation of every real number, in unconstrained space.

        Raises:
            NonFiniteObjective: 20 attempts have failed.
        """
        return finite_start(self.target, lambda key, radius: self._start(key, radius, scale), self, key)

    @property
    def size(self) -> int:
        """How many numbers the parameters are: what an encoder puts out."""
        return sum(x.size for x in jax.tree.leaves(self.blank))

    def unravel(self, vector: Any) -> Any:
        """Parameters from one vector of `size` numbers, the output of an encoder.

        The order is that of `jax.tree.leaves`: the keys of dictionaries sorted, each array raveled.

        Raises:
            ChoiceShapeError: a vector of another size.
        """
        flat, back = ravel_pytree(jax.tree.map(lambda x: jnp.zeros(x.shape, x.dtype), self.blank))
        what = f"the parameters of {self!r}, raveled,"
        return back(coerced(vector, flat.shape, flat.dtype, what))


def _shapes(params: Any) -> dict[str, tuple[int, ...]]:
    """The shape of each parameter, by its place."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    return {jax.tree_util.keystr(path, simple=True, separator="/"): jnp.shape(x) for path, x in leaves}


def _listed(some: dict[str, tuple[int, ...]], others: dict[str, tuple[int, ...]]) -> str:
    """What of some parameters is not the same among others."""
    apart = [f"{name!r} of shape {shape}" for name, shape in some.items() if others.get(name) != shape]
    return ", ".join(apart) or "no more than these"


def blank_of(shape: tuple[int, ...]) -> jax.ShapeDtypeStruct:
    """A parameter of this shape, of the default float."""
    return jax.ShapeDtypeStruct(shape, jnp.result_type(float))
