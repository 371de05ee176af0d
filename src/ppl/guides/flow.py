"""A normalizing flow over all latent choices."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any, override

import jax
import jax.numpy as jnp
import numpyro.distributions as npd

from ppl.guides.family import blank_of
from ppl.guides.over_vector import OverVector
from ppl.measure import Measure
from ppl.source import user_line
from ppl.transforms.stage import split


class Flow(OverVector):
    """A normalizing flow of flowjax over all latent choices in unconstrained space.

        z = loc + scale T(e),    e ~ N(0, 1),    choices = constrain(z)

    with `z` the vector of `ppl.unconstrained(target)`, and `T` the bijection of the flow. It is flexible
    where a normal is not: bent, skewed or with several modes; and dearer, by the networks in `T`. The ELBO
    evaluates `T` alone. Densities at given choices (`ppl.sticking_the_landing`, `ppl.dreg`, `ppl.vargrad`)
    need its inverse: quick for coupling flows; `d` passes for the default, an inverse autoregressive flow.

    Args:
        target: a conditioned program, or one without observations.
        make: `(key, base_dist) -> flow`, such as `lambda key, base: flowjax.flows.coupling_flow(key,
            base_dist=base, ...)`, or a flow. By default a masked autoregressive flow of three layers, whose
            draws are quick.

    Parameters are `{"flow": ..., "loc": (d,), "log_scale": (d,)}`, where the first is the flow, an Equinox
    module, with only those arrays that are trained.

    Raises:
        ImportError: flowjax is not installed.
        UnsupportedProgram: a latent choice is discrete, or has an estimated density.
        TypeError, ValueError: `make` makes no flow, or one of another shape, base or with a condition.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def banana():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x**2, 0.3) @ "y"
        >>> guide = ppl.guides.Flow(banana())
        >>> sorted(guide.initial(jax.random.key(0)))
        ['flow', 'loc', 'log_scale']

    References:
        Rezende, Mohamed, "Variational inference with normalizing flows", 2015.
        Kingma, Salimans, Jozefowicz, Chen, Sutskever, Welling, "Improved variational inference with inverse
        autoregressive flow", 2016.
        Ward, "FlowJAX: distributions and normalizing flows in JAX", 2024.
    """

    def __init__(self, target: Measure, make: Callable[[jax.Array, Any], Any] | Any = None) -> None:
        _libraries()
        self.make = make
        super().__init__(target)

    @cached_property
    def _parts(self) -> tuple[Any, Any]:
        """What of the flow is trained, as shapes, and the rest of it.

        The rest closes over arrays, so it is made with the guide and not inside a later transformation.
        """
        trained, rest = _parted(self._made(jax.random.key(0)))
        return jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape, x.dtype), trained), rest

    @property
    def blank(self) -> dict[str, Any]:
        """Shapes and dtypes of the parameters."""
        own = blank_of((self.latent.size,))
        return {"flow": self._parts[0], "loc": own, "log_scale": own}

    def _made(self, key: jax.Array) -> Any:
        """A flow, over standard normals."""
        flowjax, _, _ = _libraries()
        distributions = flowjax.distributions
        base = distributions.StandardNormal((self.latent.size,))
        make = _default if self.make is None else self.make
        flow = make if isinstance(make, distributions.AbstractDistribution) else make(key, base)
        if not isinstance(flow, distributions.AbstractTransformed):
            raise TypeError(f"Flow takes a flow of flowjax, or a function that makes one, got {flow!r}")
        flow = flow.merge_transforms()
        found = flow.shape, flow.cond_shape, type(flow.base_dist).__name__
        if found != ((self.latent.size,), None, "StandardNormal"):
            raise ValueError(
                f"the flow over the vector of {self.latent!r} has shape {(self.latent.size,)}, no condition, "
                f"and a normal base; got shape {found[0]}, a condition of shape {found[1]} and the base "
                f"{found[2]} ({user_line()})"
            )
        return flow

    @override
    def law(self, params: dict[str, Any]) -> Any:
        loc = jnp.zeros_like(params["loc"])
        return npd.Normal(loc, jnp.ones_like(loc)).to_event(1)

    @override
    def transform(self, params: dict[str, Any]) -> FlowTransform:
        _, equinox, _ = _libraries()
        flow = equinox.combine(params["flow"], self._parts[1])
        return FlowTransform(flow, params["loc"], params["log_scale"])

    @override
    def _start(self, key: jax.Array, radius: jax.Array, scale: float) -> dict[str, Any]:
        own, keys = self.blank["loc"], jax.random.split(key)
        return {
            "flow": _parted(self._made(keys[0]))[0],
            "loc": jax.random.uniform(keys[1], own.shape, own.dtype, -radius, radius),
            "log_scale": jnp.full(own.shape, jnp.log(scale), own.dtype),
        }


class FlowTransform:
    """The bijection of a flow, then a shift and a scale."""

    def __init__(self, flow: Any, loc: jax.Array, log_scale: jax.Array) -> None:
        self.flow, self.loc, self.log_scale = flow, loc, log_scale

    def forward(self, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The image, and the logarithm of the determinant."""
        image, log_det = self._bijection.transform_and_log_det(vector)
        return self.loc + jnp.exp(self.log_scale) * image, log_det + jnp.sum(self.log_scale)

    def inverse(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The preimage, and the logarithm of the determinant of `forward` there."""
        vector, log_det = self._bijection.inverse_and_log_det((image - self.loc) * jnp.exp(-self.log_scale))
        return vector, jnp.sum(self.log_scale) - log_det

    @property
    def _bijection(self) -> Any:
        return _libraries()[2].unwrap(self.flow).bijection


def _flatten(transform: FlowTransform) -> tuple[list[Any], Any]:
    parts = split((transform.flow, transform.loc, transform.log_scale))
    return parts.arrays, parts._replace(arrays=None)


def _unflatten(parts: Any, arrays: Any) -> FlowTransform:
    return FlowTransform(*parts.rebuild(list(arrays)))


jax.tree_util.register_pytree_node(FlowTransform, _flatten, _unflatten)


def _default(key: jax.Array, base: Any) -> Any:
    """Three layers, as in NumPyro: scales multiply from layer to layer, and flowjax's eight may overflow."""
    flowjax, _, _ = _libraries()
    return flowjax.flows.masked_autoregressive_flow(key, base_dist=base, flow_layers=3, invert=False)


def _parted(flow: Any) -> tuple[Any, Any]:
    """What of a flow is trained, and the rest."""
    _, equinox, paramax = _libraries()
    return equinox.partition(
        flow, equinox.is_inexact_array, is_leaf=lambda leaf: isinstance(leaf, paramax.NonTrainable)
    )


def _libraries() -> tuple[Any, Any, Any]:
    try:
        import equinox
        import flowjax
        import flowjax.distributions
        import flowjax.flows
        import paramax
    except ImportError as error:
        raise ImportError("ppl.guides.Flow needs flowjax: pip install 'ppl[flows]'") from error
    return flowjax, equinox, paramax
