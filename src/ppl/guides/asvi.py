"""Guides with the graph of the model: each choice of its own family, by parameters of model and guide."""

from __future__ import annotations

from typing import Any, override

import jax
import jax.numpy as jnp

from ppl.choose import described
from ppl.guides.mean_field import independent, scaled, shapes
from ppl.guides.mixed_family import free_parameters, with_parameters
from ppl.guides.per_choice import Parameters, PerChoice
from ppl.guides.start import uniform_like
from ppl.site import Site
from ppl.transforms.occurrences import Occurrence


class ASVI(PerChoice):
    """Automatic structured variational inference: a guide with the graph of the target.

    Where the target draws a choice of a family with parameters `theta(parents)`, the guide draws it of the
    same family with parameters between those and its own,

        b(s * b^-1(theta(parents)) + (1 - s) * own),    s = sigmoid(mix)

    number by number, `b` being NumPyro's bijection to the domain of the parameter (softmax for
    probabilities). So the guide knows the dependences of the prior, and learns how much of each to keep: at
    `s = 1` it is the prior, at `s = 0` independent of it. It costs what mean field costs, has twice its
    parameters, and is exact for chains of normals that are observed at every step, where mean field is not.
    Dependences that come of observations alone (two causes of one effect) it has not; see `FullRank`.

    Choices of every family with parameters are made so, coins, categories and counts too. Parameters that
    are ends of a support, and integers, stay those of the target. Where nothing else is left (`uniform`,
    truncated families), the choice is made as by `MeanField`.

    Args:
        target: a conditioned program, or one without observations.

    Parameters are a dictionary from address to `{parameter: {"own", "mix"}}`, of the shape of the choice
    and its parameter; or as those of `MeanField`.

    Raises:
        UnsupportedProgram: a latent choice is of a family without parameters and without a bijection, or of
        an
            estimated measure: write a guide by hand.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def walk():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     y = ppl.normal(x, 0.1) @ "y"
        ...     ppl.normal(y, 1.0) @ "z"
        >>> guide = ppl.guides.ASVI(walk().condition({"z": 0.5}))
        >>> params = guide.initial(jax.random.key(0))
        >>> sorted(params["y"]), sorted(params["y"]["loc"])
        (['loc', 'scale'], ['mix', 'own'])

    Reference: Ambrogioni, Lin, Fertig, Vikram, Hinne, Moore, van Gerven, "Automatic structured variational
    inference", 2021.
    """

    @override
    def shapes(self, item: Occurrence) -> dict[str, Any]:
        found: list[Any] = []

        def note(distribution: Any) -> None:
            reals = free_parameters(distribution)
            found.append({name: {"own": jnp.shape(x), "mix": jnp.shape(x)} for name, x in reals.items()})

        jax.eval_shape(note, item.distribution)
        return found[0] or shapes(item)

    @override
    def replacement(self, site: Site, distribution: Any, params: Parameters) -> tuple[Site, list[jax.Array]]:
        if not _is_mixed(params):
            return independent(site, distribution, params)
        mixed = {
            name: _between(real, params[name]["own"], jax.nn.sigmoid(params[name]["mix"]))
            for name, real in free_parameters(distribution).items()
        }
        return described(site.family, with_parameters(distribution, mixed), None, site.address, site.source)

    @override
    def _start(self, key: jax.Array, radius: jax.Array, scale: float) -> dict[str, Any]:
        drawn = uniform_like(key, self.blank, radius)
        return {
            address: jax.tree.map_with_path(_half, params) if _is_mixed(params) else scaled(params, scale)
            for address, params in drawn.items()
        }


def _is_mixed(params: Parameters) -> bool:
    return any(isinstance(value, dict) for value in params.values())


def _half(path: Any, x: jax.Array) -> jax.Array:
    return jnp.zeros_like(x) if path[-1].key == "mix" else x


def _between(prior: jax.Array, own: jax.Array, share: jax.Array) -> jax.Array:
    """The convex combination; where the target's is infinite (a probability of zero), that."""
    finite = jnp.isfinite(prior)
    safe = jnp.where(finite, prior, 0)
    mixed = share * safe + (1 - share) * own
    return jnp.where(finite, mixed, prior).astype(prior.dtype)
