"""Families made from other measures, and the door to the rest of NumPyro."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp
import numpyro.distributions as npd
from numpyro.distributions import discrete

from ppl.distributions.construct import build, exactly_one, floating
from ppl.errors import ParameterError
from ppl.measure import Measure, distribution_measure
from ppl.source import user_line


def dist(distribution: npd.Distribution) -> Measure:
    """Any NumPyro distribution, transformed and independent ones included, as a measure.

    Raises:
        ParameterError: the argument is not an instance of a NumPyro distribution.

    Example:
        >>> import numpyro.distributions as npd, ppl
        >>> dist(npd.Normal(0.0, 1.0).expand([3]).to_event(1)).log_density([0.0, 0.0, 0.0]).shape
        ()
    """
    if not isinstance(distribution, npd.Distribution):
        kind = "the class" if isinstance(distribution, type) else "an instance of"
        name = distribution.__name__ if isinstance(distribution, type) else type(distribution).__name__
        raise ParameterError(
            f"dist: expected an instance of a NumPyro distribution, such as dist(Normal(0.0, 1.0)), got "
            f"{kind} {name} ({user_line()})."
        )
    return distribution_measure(type(distribution).__name__, lambda: distribution)


def _numpyro(name: str, measure: Any) -> npd.Distribution:
    """The NumPyro distribution of a measure made by a family, or the distribution itself."""
    found = getattr(measure, "numpyro", measure)
    if not isinstance(found, npd.Distribution):
        raise ParameterError(
            f"{name}: expected a measure made by a family, such as normal(jax.numpy.zeros(3), 1.0), got "
            f"{type(measure).__name__} ({user_line()})."
        )
    return found


def mixture(components: Any, *, probs: Any = None, logits: Any = None) -> Measure:
    """One of several components, picked by `probs` or `logits`.

    It is reparameterized, and by default, if the components are scalars or vectors of independent entries
    whose distribution function is known, or normal vectors.

    Args:
        components: a measure of one family whose last batch axis runs over the components.
        probs: weights along the last axis, of the same length.
        logits: their logarithms, up to a constant.

    Raises:
        ParameterError: the weights and the components do not fit together.

    Example:
        >>> import jax.numpy as jnp, ppl
        >>> two = ppl.mixture(ppl.normal(jnp.array([-1.0, 1.0]), 0.1), probs=jnp.array([0.5, 0.5]))
        >>> two.log_density(1.0).round(4).item()
        0.6905
    """
    exactly_one("mixture", probs=probs, logits=logits)
    inner = _numpyro("mixture", components)
    weights = floating(jnp.asarray(probs if logits is None else logits))
    if weights.ndim == 0 or not inner.batch_shape or inner.batch_shape[-1] != weights.shape[-1]:
        raise ParameterError(
            f"mixture: the last axis of the weights and the last batch axis of the components must have the "
            f"same length, got weights of shape {weights.shape} and components of batch shape "
            f"{inner.batch_shape} ({user_line()})."
        )
    mixing = npd.CategoricalProbs if logits is None else npd.CategoricalLogits
    parts = {"weights": weights, "components": inner}
    make = lambda weights, components: npd.MixtureSameFamily(mixing(weights), components)
    return distribution_measure("mixture", lambda: build("mixture", make, parts))


def zero_inflated(base: Any, *, gate: Any = None, gate_logits: Any = None) -> Measure:
    """Zero with probability `gate`, else a draw of `base`, a discrete family of scalars.

    Example:
        >>> import ppl
        >>> zero_inflated(ppl.poisson(3.0), gate=0.5).log_density(0).round(4).item()
        -0.6446
    """
    exactly_one("zero_inflated", gate=gate, gate_logits=gate_logits)
    inner = _numpyro("zero_inflated", base)
    cls = discrete.ZeroInflatedProbs if gate_logits is None else discrete.ZeroInflatedLogits
    key, value = ("gate", gate) if gate_logits is None else ("gate_logits", gate_logits)
    parts = {"base_dist": inner, key: floating(value)}
    return distribution_measure("zero_inflated", lambda: build("zero_inflated", cls, parts))


def delta(value: Any, event_dim: int = 0) -> Measure:
    """All mass at `value`, whose last `event_dim` axes are one event."""
    parts = {"v": jnp.asarray(value), "event_dim": event_dim}
    return distribution_measure("delta", lambda: build("delta", npd.Delta, parts))
