"""What an inference algorithm is: three programs over an unnormalized target.

A target is a measure `gamma(x)` with normalizing constant `Z`. An algorithm draws `x` approximately from
`gamma / Z`, and estimates `Z`. It has two forms, whose hidden choices `h` have densities that are tied
together:

    free:      x, h ~ q(x, h),             with an estimate  Z(x, h);
    retained:  h ~ r(h | x) for given x,   with the estimate Z(x, h);    q(x, h) Z(x, h) = gamma(x) r(h | x).

From this one equation follow all guarantees of `ppl.marginal` and `ppl.normalize`:

    E_q[Z(x, h)] = Z,    E_{x ~ gamma / Z, h ~ r}[1 / Z(x, h)] = 1 / Z,    E_r[gamma(x) / Z(x, h)] = q(x),

and `E_q[Z(x, h) / gamma(x) | x] = 1 / q(x)`.

Reference: Andrieu, Doucet, Holenstein, "Particle Markov chain Monte Carlo methods", 2010; Lew,
Cusumano-Towner, Mansinghka, "Recursive Monte Carlo and variational inference with auxiliary variables", 2022.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ppl.choices import Choices
from ppl.families import categorical
from ppl.infer.optional import blackjax
from ppl.infer.stacked import at
from ppl.measure import Measure
from ppl.program import Conditioned, gen


class Sample(NamedTuple):
    """What the free form returns.

    Attributes:
        choices: approximately of the normalized target.
        log_density: log of the target's density at them, as the algorithm has seen it: where the target's
            density is estimated, the same estimate that the algorithm has used.
        log_normalizer: log of an unbiased estimate of the normalizing constant.
    """

    choices: Choices
    log_density: jax.Array
    log_normalizer: jax.Array


class Retained(NamedTuple):
    """What the retained form is given.

    Attributes:
        choices: of the target.
        log_density: log of the target's density at them; where it is estimated, the estimate that came with
            them.
        log_weight: the part of `log_density` that belongs to what the target is conditioned on; `None` for an
            algorithm that does not need it.
    """

    choices: Choices
    log_density: jax.Array
    log_weight: jax.Array | None = None


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Particles:
    """Weighted particles; a pytree.

    Attributes:
        choices: of each particle, along a leading axis.
        log_density: of the target at each.
        log_weights: their weights, unnormalized.
        log_normalizer: log of an unbiased estimate of the normalizing constant.

    References: Kong, Liu, Wong, "Sequential imputations and Bayesian missing data problems", 1994
    (effective); Vehtari, Simpson, Gelman, Yao, Gabry, "Pareto smoothed importance sampling", 2024 (khat).
    """

    choices: Choices
    log_density: jax.Array
    log_weights: jax.Array
    log_normalizer: jax.Array

    @property
    def weights(self) -> jax.Array:
        """The weights, which sum to one."""
        return jax.nn.softmax(self.log_weights)

    @property
    def effective(self) -> jax.Array:
        """How many particles of equal weight they are worth: `1 / sum of squared weights`."""
        return effective(self.log_weights)

    @property
    def khat(self) -> jax.Array:
        """The tail shape of the weights of independent particles; above 0.7 they cannot be trusted."""
        return blackjax("diagnostics").psis_weights(self.log_weights)[1]

    def mean(self, function: Callable[[Choices], Any]) -> Any:
        """The weighted mean of a function of the choices; an array, or a pytree of them."""
        values = jax.vmap(function)(self.choices)
        return jax.tree.map(lambda x: jnp.tensordot(self.weights.astype(x.dtype), x, axes=1), values)


class Algorithm(ABC):
    """An inference algorithm: a value, which is run inside programs. See `ppl.infer.algorithm`.

    Attributes:
        needs_weight: whether the retained form needs `Retained.log_weight`.
    """

    needs_weight: bool = True

    @abstractmethod
    def run(self, target: Measure) -> Particles:
        """Inside a program: the free form, before one of its particles is chosen."""

    def sample(self, target: Measure) -> Sample:
        """Inside a program: the free form. Which particle it is, is a choice at `"particle"`."""
        made = self.run(target)
        index = one_of(made.log_weights)
        return Sample(at(made.choices, index), made.log_density[index], made.log_normalizer)

    @abstractmethod
    def log_normalizer(self, target: Measure) -> jax.Array:
        """Inside a program: the estimate of the free form alone, `E[exp(.)] = Z`."""

    @abstractmethod
    def log_normalizer_given(self, target: Measure, retained: Retained) -> jax.Array:
        """Inside a program: the estimate of the retained form."""


def observed(target: Measure) -> Choices:
    """What a target is conditioned on."""
    return target.observed if isinstance(target, Conditioned) else Choices()


def effective(log_weights: jax.Array) -> jax.Array:
    """How many particles of equal weight these are worth: one over the sum of the squared shares."""
    return 1 / jnp.sum(jax.nn.softmax(log_weights) ** 2)


@gen
def _one_of(log_weights: Any) -> Any:
    return categorical(logits=log_weights) @ "particle"


def one_of(log_weights: jax.Array) -> Any:
    """Inside a program: the number of one particle, drawn by its weight."""
    return 0 if log_weights.shape[0] == 1 else _one_of(log_weights).propose().retval


def unobserved(target: Measure, choices: Choices) -> Choices:
    """A program's choices without those that the target is conditioned on."""
    return choices.without(*(address for address, _ in observed(target).leaves()))
