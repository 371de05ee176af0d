"""Where in a program a walk stands: which loops it is inside of, and what its noise is keyed by."""

from __future__ import annotations

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.address import Folds
from ppl.noise import Token
from ppl.site import Site
from ppl.transforms.naming import Count, Name, full_path
from ppl.transforms.occurrences import occurrences


class Loop(NamedTuple):
    """A loop that the walk is inside of: the current step, and how many there are if that is known."""

    step: Any
    length: int | None


class Here(NamedTuple):
    """Where in the program the walk stands.

    Attributes:
        key: the key of the whole run.
        token: asks for independent noise in each lane of an enclosing `vmap` over the whole run.
        samples: how many runs `num_samples` averages.
        loops: the enclosing loops, outermost first.
        feed: arrays handed to choices, sliced to the current step of every enclosing loop.
        count: how often each address has come up.
        folds: the numbers that stand for address components in keys.
        roots: the keys of the first components, as far as they are derived already.
    """

    key: Any
    token: Token
    samples: int
    loops: tuple[Loop, ...]
    feed: dict[Any, Any]
    count: Count
    folds: Folds
    roots: dict[Any, Any]

    def key_of(self, name: Name, site: Site | None = None) -> jax.Array:
        """The key of a choice: a function of its address path and of the steps it is drawn at."""
        path = self.folds.distinct(full_path(name, site, len(self.loops)))
        steps = iter(self.loops)
        key = self.key
        if path[0] in self.roots:
            key, path = self.roots[path[0]], path[1:]
        for part in path:
            key = jax.random.fold_in(key, next(steps).step if part is None else self.folds.number(part))
        return key

    def inside(self, loop: Loop, feed: dict[Any, Any]) -> Here:
        """The position inside one more loop."""
        return self._replace(loops=(*self.loops, loop), feed=self.feed | feed, count=dict(self.count))


def start(
    key: Any = None, token: Token | None = None, feed: dict[Any, Any] | None = None, jaxpr: Any = None,
    samples: int = 1,
) -> Here:  # fmt: skip
    """The position before the first equation of a run.

    With the `jaxpr` that will be run, the keys of the first address components are derived together: one
    vectorized operation compiles faster than one for each choice.
    """
    folds, roots = Folds(), {}
    if jaxpr is not None and key is not None:  # an exact sum draws nothing
        paths = [full_path(item.name, item.site, len(item.lengths)) for item in occurrences(jaxpr)]
        first = list(dict.fromkeys(path[0] for path in paths if path[0] is not None))
        if len(first) > 1:
            numbers = jnp.asarray([folds.number(part) for part in first], jnp.uint32)
            keys = jax.vmap(jax.random.fold_in, in_axes=(None, 0))(key, numbers)
            roots = {part: keys[number] for number, part in enumerate(first)}
    token = Token() if token is None else token
    return Here(key, token, samples, (), {} if feed is None else feed, {}, folds, roots)
