"""A law over real vectors, carried to the choices of a target."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NoReturn, Protocol, override

import jax
import jax.numpy as jnp
import numpyro.distributions as npd

from ppl.choices import Choices
from ppl.choose import Using, described, layered
from ppl.distributions.ends import moving_support
from ppl.errors import UnsupportedProgram
from ppl.estimated import Drawn, EstimatedMeasure
from ppl.estimators.registry import default_estimator
from ppl.measure import Distribution
from ppl.source import user_line
from ppl.transforms import jax_internals as internals
from ppl.transforms.occurrences import Occurrence
from ppl.unconstrained import Unconstrained, inert


class Diffeomorphism(Protocol):
    """A smooth bijection of real vectors, a pytree; both ways with `log |det d forward / d its argument|`."""

    def forward(self, vector: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The image."""
        ...

    def inverse(self, image: jax.Array) -> tuple[jax.Array, jax.Array]:
        """The preimage."""
        ...


class Transported(EstimatedMeasure):
    """The measure over a target's latent choices that a random vector stands for.

        z = T(e),    e ~ law,    choices = constrain(z)

    Its density is exact, `log law(e) - log |det dT/de| - log |det d choices / dz|`, and needs no key, so that
    every objective takes it as a guide, whatever the law. There is one exception. Where a choice is made in
    some runs only, its entries of the vector have to be integrated out where it is not; there the density is
    estimated, by a standard normal, as that of `ppl.marginal` is: objectives that need it exactly refuse it.

    It returns its choices.

    Args:
        latent: the vector of the target, `ppl.unconstrained(target)`.
        law: a NumPyro distribution over real vectors of `latent.size` entries.
        transform: `T`; the identity by default.
        name: for messages.

    Raises:
        TypeError: the law is no distribution over such vectors.

    Example:
        >>> import jax, jax.numpy as jnp, numpyro.distributions as npd, ppl
        >>> @ppl.gen
        ... def model():
        ...     scale = ppl.gamma(2.0, 1.0) @ "scale"
        ...     ppl.normal(0.0, scale) @ "y"
        >>> latent = ppl.unconstrained(model().condition({"y": 0.5}))
        >>> guide = ppl.guides.Transported(latent, npd.StudentT(4.0, jnp.zeros(1), 1.0).to_event(1))
        >>> float(guide.log_density({"scale": 1.0}).round(4))  # the density of Student's t at log 1
        -0.9808
    """

    def __init__(
        self, latent: Unconstrained, law: Any, transform: Diffeomorphism | None = None,
        layers: tuple[Using, ...] = (), name: str = "transported",
    ) -> None:  # fmt: skip
        if not isinstance(law, npd.Distribution) or law.batch_shape or law.event_shape != (latent.size,):
            shapes = f" of batch shape {law.batch_shape} and event shape {law.event_shape}" * hasattr(
                law, "event_shape"
            )
            raise TypeError(
                f"the law over the vector of {latent!r} is a NumPyro distribution of event shape "
                f"{(latent.size,)} and no batch shape, got {type(law).__name__}{shapes} ({user_line()})"
            )
        self.latent, self.law, self.transform = latent, law, transform
        self.layers, self.name = layers, name

    def __repr__(self) -> str:
        return f"{self.name}({self.latent.target!r})"

    @property
    def is_exact(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether every run makes every choice, so that the density is no estimate."""
        return not self.latent.conditional

    @property
    def is_fixed(self) -> bool:  # pyright: ignore[reportIncompatibleVariableOverride]
        """Whether all ends of supports are constants."""
        return not any(_may_move(slot.item) for slot in self.latent.slots.values())

    @property
    def is_pathwise(self) -> bool:
        """Whether derivatives pass through the draw of the vector."""
        site = described(self.name, self.law, None, None, "")[0]
        chosen = layered(self.layers)(site, (self.law, default_estimator(self.law)))[0]
        return chosen.pathwise

    @property
    def _measure(self) -> Distribution:
        return Distribution(self.family, self.law, source=user_line())

    @override
    def draw(self) -> Drawn:
        trace = self._measure.propose()
        vector, log_density = trace.retval, trace.log_density
        if self.transform is not None:
            vector, log_det = self.transform.forward(vector)
            log_density -= log_det
        moved = self.latent.moved(vector.astype(self.latent.dtype))
        return Drawn(moved.choices, log_density - moved.log_det - inert(moved.vector, moved.made))

    @override
    def score(self, choices: Choices) -> jax.Array:
        moved = self.latent.moved_back(choices)
        vector, log_density = moved.vector, -moved.log_det
        if not self.is_exact:
            size = jnp.zeros(self.latent.size, self.latent.dtype)
            anything = Distribution("normal", npd.Normal(size, 1.0), source=user_line()).propose()
            vector = jnp.where(moved.made, vector, anything.retval)
            log_density -= inert(vector, moved.made)
        if self.transform is not None:
            vector, log_det = self.transform.inverse(vector)
            log_density -= log_det
        return log_density + self._measure.log_density(vector)

    @override
    def condition(self, observed: Mapping[Any, Any]) -> NoReturn:
        raise UnsupportedProgram(
            f"{self!r} makes its choices together and cannot be conditioned on some of them "
            f"({', '.join(map(repr, observed))}). Condition the target, and make the guide of that."
        )

    @override
    def layered(self, layers: tuple[Using, ...]) -> Transported:
        return Transported(self.latent, self.law, self.transform, layers, self.name)

    @property
    @override
    def family(self) -> str:
        return self.name


def _may_move(item: Occurrence) -> bool:
    constant = all(internals.is_literal(operand) for operand in item.calls[-1].invars)
    return bool(moving_support(item.distribution)) and not constant


def _unflatten(name: str, children: Any) -> Transported:
    made = object.__new__(Transported)  # JAX puts other things than arrays in a pytree
    made.latent, made.law, made.transform, made.layers = children
    made.name = name
    return made


jax.tree_util.register_pytree_node(
    Transported, lambda t: ((t.latent, t.law, t.transform, t.layers), t.name), _unflatten
)
