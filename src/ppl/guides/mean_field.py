"""Independent distributions for all latent choices."""

from __future__ import annotations

from typing import Any, override

import jax
import jax.numpy as jnp
import numpyro.distributions as npd
from numpyro.distributions import constraints

from ppl.bijection import bijection
from ppl.choose import described
from ppl.distributions.flip import Flip
from ppl.guides.per_choice import Parameters, PerChoice
from ppl.guides.start import uniform_like
from ppl.site import Site
from ppl.transforms.occurrences import Occurrence

_BY_HAND = "write its guide by hand."


class MeanField(PerChoice):
    """A guide in which every latent choice of a target is independent of the others.

    A choice with a density is a normal in unconstrained space, brought to its support by NumPyro's bijection;
    a coin or category has logits of its own. The guide runs the target's code, so that it makes the choices
    that the target makes, in the same loops, lanes and branches; supports may depend on earlier choices.

    Args:
        target: a conditioned program, or one without observations.

    Parameters are a dictionary from address to `{"loc", "log_scale"}`, of the shape of the choice in
    unconstrained space (loops and lanes first, as in a trace), or `{"logits"}`.

    Raises:
        UnsupportedProgram: a latent choice is of a family without a bijection or logits, such as a count, or
            of an estimated measure: write a guide by hand.
        TypeError: the target is no program.

    Example:
        >>> import jax, optax, ppl
        >>> @ppl.gen
        ... def model():
        ...     scale = ppl.gamma(2.0, 1.0) @ "scale"
        ...     ppl.normal(0.0, scale) @ "y"
        >>> target = model().condition({"y": 1.5})
        >>> guide = ppl.guides.MeanField(target)
        >>> objective = ppl.expectation(lambda params: ppl.elbo(target, guide(params)))
        >>> start = guide.initial(jax.random.key(0))
        >>> start["scale"].keys()
        dict_keys(['loc', 'log_scale'])
        >>> found = ppl.fit(
        ...     objective, start, optax.adam(0.05), key=jax.random.key(1), steps=300, num_samples=8,
        ...     progress=False,
        ... )
        >>> bool(found.values[-50:].mean() > found.values[:5].mean())
        True

    Reference: Kucukelbir, Tran, Ranganath, Gelman, Blei, "Automatic differentiation variational inference",
    2017.
    """

    @override
    def shapes(self, item: Occurrence) -> dict[str, tuple[int, ...]]:
        return shapes(item)

    @override
    def replacement(self, site: Site, distribution: Any, params: Parameters) -> tuple[Site, list[jax.Array]]:
        return independent(site, distribution, params)

    @override
    def _start(self, key: jax.Array, radius: jax.Array, scale: float) -> dict[str, Any]:
        drawn = uniform_like(key, self.blank, radius)
        return {address: scaled(params, scale) for address, params in drawn.items()}


def scaled(params: Parameters, scale: float) -> Parameters:
    """The parameters of an independent choice, with this standard deviation."""
    if "log_scale" not in params:
        return params
    return params | {"log_scale": jnp.full_like(params["log_scale"], jnp.log(scale))}


def shapes(item: Occurrence) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters of one lane and step of an independent choice."""
    site, distribution = item.site, item.distribution
    if isinstance(distribution, (npd.BernoulliProbs, npd.BernoulliLogits, Flip)):
        return {"logits": site.shape}
    if isinstance(distribution, (npd.CategoricalProbs, npd.CategoricalLogits)):
        return {"logits": (*site.shape, len(site.support))}
    found: list[tuple[int, ...]] = []

    def note(distribution: Any) -> None:  # a support may depend on arrays, which are not known here
        found.append(tuple(bijection(site, distribution, _BY_HAND).inverse_shape(site.shape)))

    jax.eval_shape(note, distribution)
    return {"loc": found[0], "log_scale": found[0]}


def independent(site: Site, distribution: Any, params: Parameters) -> tuple[Site, list[jax.Array]]:
    """The choice that is made in place of another: a normal in unconstrained space, or logits."""
    if "logits" in params:
        logits = params["logits"].astype(jnp.result_type(float))
        if isinstance(distribution, Flip):
            new: Any = Flip(jax.nn.sigmoid(logits))
        elif isinstance(distribution, (npd.BernoulliProbs, npd.BernoulliLogits)):
            new = npd.BernoulliLogits(logits)
        else:
            new = npd.CategoricalLogits(logits)
        return described(site.family, new, None, site.address, site.source)
    transform = bijection(site, distribution, _BY_HAND)
    loc, scale = params["loc"].astype(site.dtype), jnp.exp(params["log_scale"]).astype(site.dtype)
    new = npd.Normal(loc, scale)
    if transform.domain.event_dim:
        new = new.to_event(transform.domain.event_dim)
    if not _is_real(distribution.support):
        new = npd.TransformedDistribution(new, transform)
    return described("mean_field", new, None, site.address, site.source)


def _is_real(constraint: Any) -> bool:
    inner = getattr(constraint, "base_constraint", constraint)
    return inner is constraints.real or isinstance(inner, type(constraints.real))
