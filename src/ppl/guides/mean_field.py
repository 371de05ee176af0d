"""Independent distributions for all latent choices."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpyro.distributions as npd
from numpyro.distributions import biject_to, constraints

from ppl.address import Address, show
from ppl.choices import Choices
from ppl.choose import described
from ppl.distributions.flip import Flip
from ppl.errors import NonFiniteObjective, UnsupportedProgram
from ppl.given import prepared
from ppl.measure import Measure
from ppl.noise import check_key
from ppl.program import Conditioned, Program, gen
from ppl.site import Site
from ppl.source import user_line
from ppl.transforms.interpret import walk
from ppl.transforms.occurrences import Occurrence
from ppl.transforms.position import start
from ppl.transforms.replace import Replace
from ppl.transforms.stage import Staged
from ppl.transforms.trace_axes import from_trace, raw_axes

_ATTEMPTS = 20


class MeanField:
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

    def __init__(self, target: Measure) -> None:
        program = target.program if isinstance(target, Conditioned) else target
        if not isinstance(program, Program):
            raise TypeError(
                f"a mean-field guide is made of a generative function applied to its arguments, conditioned "
                f"or not, got {target!r} ({user_line()})"
            )
        self.target, self._program = target, program
        self._observed = target.observed if isinstance(target, Conditioned) else Choices()

    def __repr__(self) -> str:
        return f"MeanField({self.target!r})"

    def __call__(self, params: dict[str, Any]) -> Program:
        """The guide with these parameters, a measure over the latent choices."""
        return _guide(self, params)

    def initial(self, key: jax.Array, scale: float = 0.1) -> dict[str, Any]:
        """Parameters at which the target's log density and its derivative are finite at a draw.

        Locations are uniform between -2 and 2, nearer to zero with every attempt that fails.

        Args:
            key: of the locations.
            scale: the standard deviation of every normal, in unconstrained space.

        Raises:
            NonFiniteObjective: 20 attempts have failed.
        """
        check_key(key)
        staged = self._program.stage()
        blank = self._blank(staged)

        def attempt(number: int) -> tuple[Any, Any]:
            here = jax.random.fold_in(key, number)
            radius = 2.0 * (1 - number / _ATTEMPTS)
            leaves, tree = jax.tree.flatten(blank)
            keys = jax.random.split(here, max(len(leaves), 1))
            drawn = [
                jax.random.uniform(k, x.shape, x.dtype, -radius, radius)
                for k, x in zip(keys, leaves, strict=False)
            ]
            params = {
                name: {part: jnp.full_like(x, jnp.log(scale)) if part == "log_scale" else x
                       for part, x in parts.items()}
                for name, parts in jax.tree.unflatten(tree, drawn).items()
            }  # fmt: skip
            choices = self(params).simulate(here).choices
            floats = {a: x for a, x in choices.leaves() if jnp.issubdtype(x.dtype, jnp.inexact)}
            score, slope = jax.value_and_grad(
                lambda floats: self.target.log_density(Choices({**dict(choices.leaves()), **floats}))
            )(floats)
            finite = [jnp.all(jnp.isfinite(x)) for x in jax.tree.leaves((score, slope))]
            return params, jnp.all(jnp.stack(finite))

        compiled = jax.jit(attempt, static_argnums=0)
        for number in range(_ATTEMPTS):
            params, finite = compiled(number)
            if finite:
                return params
        raise NonFiniteObjective(
            f"the log density of {self.target!r}, or its derivative, is not finite at {_ATTEMPTS} draws of a "
            "guide whose locations are between -2 and 2 in unconstrained space. Give parameters of your own, "
            "and see where it is not by the error of a first step of `ppl.fit`."
        )

    def _latent(self, staged: Staged) -> dict[Address, Occurrence]:
        seen = dict(self._observed.leaves())
        return {address: items[0] for address, items in staged.choices.items() if address not in seen}

    def _blank(self, staged: Staged) -> dict[str, Any]:
        """Parameters that are zero."""
        blank: dict[str, Any] = {}
        for address, item in self._latent(staged).items():
            raw = (*(length or 0 for length in item.lengths), *item.site.lanes)
            instances = [raw[axis] for axis in raw_axes(item)]
            shapes = _parameters(item)
            blank[show(address)] = {
                part: jnp.zeros((*instances, *shape), float) for part, shape in shapes.items()
            }
        return blank


@gen
def _guide(family: MeanField, params: dict[str, Any]) -> Any:
    staged = family._program.stage()
    latent = family._latent(staged)
    given = prepared(staged, family._observed, complete=False)
    feed: dict[Any, Any] = dict(given)
    known = {show(address): address for address in latent}
    if set(params) != set(known):
        raise UnsupportedProgram(
            f"the parameters of {family!r} are for {sorted(params)}, its latent choices {sorted(known)}."
        )
    for name, address in known.items():
        feed[address] = jax.tree.map(lambda x, item=latent[address]: from_trace(item, x), params[name])
    rule = Replace(frozenset(given), _independent)
    walk(staged.jaxpr, staged.arrays, rule, start(feed=feed))


def _parameters(item: Occurrence) -> dict[str, tuple[int, ...]]:
    """The shapes of the parameters of one lane and step."""
    site = item.site
    if item.is_joint:
        raise UnsupportedProgram(
            f"the choice {site.where} is of a measure whose density is estimated: write its guide by hand."
        )
    distribution = item.distribution
    if isinstance(distribution, (npd.BernoulliProbs, npd.BernoulliLogits, Flip)):
        return {"logits": site.shape}
    if isinstance(distribution, (npd.CategoricalProbs, npd.CategoricalLogits)):
        return {"logits": (*site.shape, len(site.support))}
    shapes: list[tuple[int, ...]] = []

    def note(distribution: Any) -> None:  # a support may depend on arrays, which are not known here
        shapes.append(tuple(_bijection(site, distribution).inverse_shape(site.shape)))

    jax.eval_shape(note, distribution)
    return {"loc": shapes[0], "log_scale": shapes[0]}


def _bijection(site: Site, distribution: Any) -> Any:
    if not jnp.issubdtype(site.dtype, jnp.floating):
        raise UnsupportedProgram(
            f"the choice {site.where} is discrete, and of no family that has logits: write its guide by hand."
        )
    try:
        return biject_to(distribution.support)
    except NotImplementedError as error:
        raise UnsupportedProgram(
            f"NumPyro has no bijection to the support of {site.where}: write its guide by hand."
        ) from error


def _independent(site: Site, distribution: Any, params: dict[str, Any]) -> tuple[Site, list[jax.Array]]:
    """The choice that is made in place of another."""
    if "logits" in params:
        logits = params["logits"].astype(jnp.result_type(float))
        if isinstance(distribution, Flip):
            new: Any = Flip(jax.nn.sigmoid(logits))
        elif isinstance(distribution, (npd.BernoulliProbs, npd.BernoulliLogits)):
            new = npd.BernoulliLogits(logits)
        else:
            new = npd.CategoricalLogits(logits)
        return described(site.family, new, None, site.address, site.source)
    bijection = _bijection(site, distribution)
    loc, scale = params["loc"].astype(site.dtype), jnp.exp(params["log_scale"]).astype(site.dtype)
    new = npd.Normal(loc, scale)
    if bijection.domain.event_dim:
        new = new.to_event(bijection.domain.event_dim)
    if not _is_real(distribution.support):
        new = npd.TransformedDistribution(new, bijection)
    return described("mean_field", new, None, site.address, site.source)


def _is_real(constraint: Any) -> bool:
    inner = getattr(constraint, "base_constraint", constraint)
    return inner is constraints.real or isinstance(inner, type(constraints.real))
