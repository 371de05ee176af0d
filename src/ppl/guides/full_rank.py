"""A normal with a full covariance over all latent choices."""

from __future__ import annotations

from typing import Any, override

import jax
import jax.numpy as jnp
import numpyro.distributions as npd
from numpyro.distributions import biject_to, constraints

from ppl.guides.family import blank_of
from ppl.guides.over_vector import OverVector


class FullRank(OverVector):
    """A normal with a full covariance over all latent choices in unconstrained space.

        z ~ N(loc, L L'),    choices = constrain(z)

    with `z` the vector of `ppl.unconstrained(target)` and `L` lower triangular with a positive diagonal. It
    is exact for a target that is normal there. `d` latent numbers have `d (d + 3) / 2` parameters; a step
    costs `O(d^2)` beside the target's density.

    Args:
        target: a conditioned program, or one without observations.

    Parameters are `{"loc": (d,), "cholesky": (d (d + 1) / 2,)}`, the latter by NumPyro's bijection to
    Cholesky factors; `guide.law(params)` is the normal, with `covariance_matrix`, and `guide.latent.names`
    says which entry is which.

    Raises:
        UnsupportedProgram: a latent choice is discrete, or has an estimated density.

    Example:
        >>> import jax, optax, ppl
        >>> @ppl.gen
        ... def model():
        ...     x = ppl.normal(0.0, 1.0) @ "x"
        ...     ppl.normal(x, 0.8) @ "y"
        >>> target = model()
        >>> guide = ppl.guides.FullRank(target)
        >>> objective = ppl.expectation(lambda params: ppl.sticking_the_landing(target, guide(params)))
        >>> params = ppl.fit(
        ...     objective, guide.initial(jax.random.key(0)), optax.adam(0.05), key=jax.random.key(1),
        ...     steps=400, progress=False,
        ... ).params
        >>> (10 * guide.law(params).covariance_matrix).round().astype(int).tolist()  # 1, 1; 1, 1 + 0.8**2
        [[10, 10], [10, 16]]

    Reference: Kucukelbir, Tran, Ranganath, Gelman, Blei, "Automatic differentiation variational inference",
    2017, section 2.4.
    """

    @property
    def blank(self) -> dict[str, Any]:
        """Shapes and dtypes of the parameters."""
        size = self.latent.size
        return {"loc": blank_of((size,)), "cholesky": blank_of((size * (size + 1) // 2,))}

    @override
    def law(self, params: dict[str, Any]) -> npd.MultivariateNormal:
        return npd.MultivariateNormal(params["loc"], scale_tril=_FACTOR(params["cholesky"]))

    @override
    def _start(self, key: jax.Array, radius: jax.Array, scale: float) -> dict[str, Any]:
        blank = self.blank["loc"]
        loc = jax.random.uniform(key, blank.shape, blank.dtype, -radius, radius)
        return normal_params(loc, scale * jnp.eye(self.latent.size, dtype=blank.dtype))


_FACTOR = biject_to(constraints.lower_cholesky)


def normal_params(loc: jax.Array, factor: jax.Array) -> dict[str, Any]:
    """The parameters of a normal with this mean and Cholesky factor of the covariance."""
    return {"loc": loc, "cholesky": _FACTOR.inv(factor)}
