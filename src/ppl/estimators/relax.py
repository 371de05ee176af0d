"""RELAX: a score-function estimator with a control variate of any shape."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp

from ppl.distributions.density import log_density
from ppl.distributions.relaxation import relaxation, relaxed_noise
from ppl.distributions.sampling import draw
from ppl.errors import UnsupportedProgram
from ppl.estimators.protocol import Contribution, Differentiated, Estimator, magic_box, moved
from ppl.estimators.traced_function import TracedFunction
from ppl.noise import Noise


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Relax(Estimator):
    """Needs a flip or a category, and a function; one evaluation; as low a variance as the function is good.

    The choice `b = H(z)` is a rounding of a relaxed variable `z`: a logistic variable for a coin, Gumbel
    variables for a category. With `z'` drawn given `b`, and any continuous function `c`,

        d/dtheta E[f(b)] = E[(f(b) - c(z')) d/dtheta log p(b; theta) + d/dtheta c(z) - d/dtheta c(z')],

    unbiased whatever `c` is: what it subtracts has expectation `E[c(z)]`, whose derivative is added again.
    The closer `c(z)` comes to the rest of the program, the lower the variance. The surrogate's extra term is
    `c(z) - m c(z')`, less its value, with the magic box `m` of `log p(b; theta)`.

    The arrays in `control` are traced: a control of the right shape can be trained, by descending the
    variance.

    The control is left out of `surrogate`, which may be differentiated twice: a second derivative would need
    a control without kinks. There the estimator is the plain score function. As the score function it never
    sees a value of probability zero: keep probabilities inside (0, 1).

    Attributes:
        control: `c`, from the relaxed variable of one instance to a scalar. A coin's `z` is a scalar,
            positive for a one, a category's has shape `(K,)`, its largest entry the category. A function, a
            `functools.partial` over parameters, or a callable pytree such as an Equinox module. It may depend
            on whatever was drawn before. An array of choices has the sum of the controls of its entries.
        whole: whether the control is a function of the whole array of choices (of one lane), from the relaxed
            variables of all entries to one scalar. Where entries interact in the rest of the program, it can
            follow.

    Raises:
        PPLError: `control` is no function, or a closure over a traced value.
        DiscontinuousReparameterization: `control` jumps, so that its derivative would be biased.

    Example:
        >>> import ppl, jax
        >>> @ppl.expectation
        ... def cost(p):
        ...     relax = ppl.estimators.Relax(lambda z: jax.nn.sigmoid(z) ** 2)
        ...     return (ppl.flip(p).using(relax) @ "b" - 0.45) ** 2
        >>> float(cost.grad(jax.random.key(0), 0.4, num_samples=100_000).round(2))
        0.1

    References:
        Grathwohl, Choi, Wu, Roeder, Duvenaud, "Backpropagation through the void: Optimizing control variates
        for black-box gradient estimation", 2018.
    """

    control: Callable[[Any], Any]
    whole: bool = field(default=False, metadata={"static": True})
    usage: ClassVar[str] = "Relax(control)"

    def __post_init__(self) -> None:
        if not isinstance(self.control, TracedFunction):
            object.__setattr__(self, "control", TracedFunction(self.control))

    @override
    def admits(self, distribution: Any) -> bool:
        """Families with a relaxation in `ppl.distributions.relaxation`."""
        return relaxation(distribution) is not None

    @override
    def differentiates(self, distribution: Any) -> tuple[Differentiated, ...]:
        return (Differentiated(self.control, relaxed_shape(distribution, self.whole)),)

    @override
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw, its score and the control, which has expectation zero at every parameter."""
        return controlled(self.control, self.whole, distribution, noise, order)


def relaxed_shape(distribution: Any, whole: bool) -> Any:
    """The shape and dtype of the relaxed variable of one instance, or of the whole array of them."""
    rule = relaxation(distribution)
    assert rule is not None
    location = jax.eval_shape(rule.location, distribution)
    shape = location.shape if whole else location.shape[location.ndim - rule.axes :]
    return jax.ShapeDtypeStruct(shape, location.dtype)


def controlled(
    control: Callable[[Any], Any], whole: bool, distribution: Any, noise: Noise, order: int
) -> Contribution:
    """The score function with a control of the relaxed variables, for a first derivative."""
    value = jax.lax.stop_gradient(draw(jax.tree.map(jax.lax.stop_gradient, distribution), noise))
    score = log_density(distribution, value)
    if order > 1:
        return Contribution(value, score)
    argument = relaxed_shape(distribution, whole)
    found = jax.eval_shape(control, argument)
    if found.shape != ():
        raise UnsupportedProgram(
            "the function that Relax or Rebar takes maps the relaxed variable of one instance (of all with "
            f"whole=True) to a scalar; for one of shape {argument.shape} it returned shape {found.shape}"
        )
    box = magic_box(jnp.sum(score) if whole else score)
    for _ in () if whole else distribution.batch_shape:
        control = jax.vmap(control)
    z, conditional = relaxed_noise(distribution, value, noise)
    term = moved(control(z) - box * control(conditional)).astype(score.dtype)
    # One term for the whole array is spread over its entries, which are added up.
    return Contribution(
        value, score, control=jnp.broadcast_to(term / score.size if whole else term, score.shape)
    )
