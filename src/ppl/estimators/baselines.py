"""Baselines of the score function: what is subtracted from the return that a score multiplies.

A baseline may depend on anything but the draw itself; then it changes the variance of a gradient and never
its mean. `Reinforce(baseline=...)` takes a number, a traced scalar, or one of the classes here.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any, ClassVar, override

import jax
import jax.numpy as jnp

from ppl.errors import UnsupportedProgram
from ppl.noise import SAMPLES


class Baseline(ABC):
    """A baseline that is known only when the program has run, from the returns of this and other runs.

    A subclass is a frozen dataclass, registered as a pytree; its fields are static.

    Attributes:
        averaged: whether a state is kept from step to step of training: the moving average of the returns.
    """

    averaged: ClassVar[bool] = False

    @abstractmethod
    def after(self, returns: Any, samples: int, state: Any, where: str) -> Any:
        """The baseline of each instance.

        Args:
            returns: of each instance in this run, loops first, then lanes, then the entries of an array.
            samples: how many runs `num_samples` averages; if several, `jax.lax` knows them as an axis.
            state: broadcasts against `returns`; `None` where no state is kept.
            where: the choice, for messages.
        """

    def kept(
        self, loops: tuple[int, ...], lanes: tuple[int, ...], entries: tuple[int, ...]
    ) -> tuple[int, ...]:
        """The shape of what is kept: for a choice in such loops and lanes, with such an array of entries.

        It broadcasts against the returns, which are averaged along the axes that it has of length one.
        """
        return (*loops, *(1 for _ in lanes), *entries)

    def update(self, average: Any, state: Any) -> Any:
        """The new state from the average return of a step."""
        raise NotImplementedError


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class LeaveOneOut(Baseline):
    """Needs `num_samples` of two or more; free: the mean return of the other samples.

    Written `Reinforce(baseline="loo")`. Each instance of the choice, in each lane and step, is compared with
    the same instance in the other runs:

        (R_s - 1 / (S - 1) sum_{t != s} R_t) d log p(x_s).

    References:
        Kool, van Hoof, Welling, "Buy 4 REINFORCE samples, get a baseline for free!", 2019.
        Salimans, Knowles, "On using control variates with stochastic approximation for variational Bayes and
        its connection to stochastic linear regression", 2014.
    """

    @override
    def after(self, returns: Any, samples: int, state: Any, where: str) -> Any:
        if samples < 2:
            raise UnsupportedProgram(
                f"the choice {where} takes the mean of the other samples as its baseline, and there is one "
                'sample only. Ask for several, `num_samples=4`; or use `Reinforce(baseline="average")`, or '
                "`LeaveOneOut(samples=4)`, which draws this choice alone several times."
            )
        return (jax.lax.psum(returns, SAMPLES) - returns) / (samples - 1)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class MovingAverage(Baseline):
    """Needs a training state; free: an exponential average of the returns of earlier steps.

    Written `Reinforce(baseline="average")`, or `Reinforce(baseline=MovingAverage(0.99))`. One average is kept
    for each step of a loop and each entry of an array, of all lanes together; or of each lane by itself,
    which has less variance where a lane is the same datum at every step. `ppl.fit` keeps the state; in a loop
    of your own `Expectation.learn` returns it. Without one, as in `grad`, the baseline is zero.

    Attributes:
        decay: what remains of the old average after a step. The average is corrected for its start at zero.
        per_lane: whether each lane has an average of its own.

    Reference: Mnih, Gregor, "Neural variational inference and learning in belief networks", 2014.
    """

    decay: float = field(default=0.9, metadata={"static": True})
    per_lane: bool = field(default=False, metadata={"static": True})
    averaged: ClassVar[bool] = True

    @override
    def after(self, returns: Any, samples: int, state: Any, where: str) -> Any:
        if state is None:
            return jnp.zeros_like(returns)
        total, weight = state
        return total / jnp.maximum(weight, jnp.finfo(total.dtype).tiny)

    @override
    def kept(
        self, loops: tuple[int, ...], lanes: tuple[int, ...], entries: tuple[int, ...]
    ) -> tuple[int, ...]:
        return (*loops, *lanes, *entries) if self.per_lane else super().kept(loops, lanes, entries)

    @override
    def update(self, average: Any, state: Any) -> Any:
        total, weight = state
        return self.decay * total + (1 - self.decay) * average, self.decay * weight + (1 - self.decay)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Learned:
    """Needs a prediction of the return; free: a network's output, regressed on the return.

    The prediction is computed in the program, from anything but the choice itself, with parameters of yours:
    `Reinforce(baseline=Learned(net(params["baseline"], y)))`. Parameters that reach the program through
    estimators only are trained by `Expectation.learn`, and so by `ppl.fit`, on

        sum over instances of (R_i - prediction_i)**2 / 2;

    they never move the objective's gradient, whose derivative with respect to them is zero.

    Attributes:
        prediction: broadcasts against the instances of the choice.

    Reference: Mnih, Gregor, "Neural variational inference and learning in belief networks", 2014, eq. 9.
    """

    prediction: Any


def as_baseline(baseline: Any) -> Any:
    """The baseline that a user's word stands for.

    Raises:
        ValueError: the word is not known.
    """
    if not isinstance(baseline, str):
        return baseline
    words = {"loo": LeaveOneOut(), "average": MovingAverage()}
    if baseline not in words:
        raise ValueError(f"a baseline is a number or one of {', '.join(map(repr, words))}, got {baseline!r}")
    return words[baseline]
