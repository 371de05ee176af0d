"""The contract of a gradient estimator, and what one makes of a choice.

A derived program computes a *surrogate*: a random number whose value is an unbiased estimate of an
expectation and whose derivatives are unbiased estimates of its derivatives. An estimator says what one
random choice puts into the surrogate. It sees one lane, one step: the distribution, and a source of
noise. It returns a `Contribution`; `ppl.transforms.gradient` composes them (its docstring has the
algebra).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, NamedTuple

import jax

from ppl.distributions.density import log_density
from ppl.noise import Noise


class Contribution(NamedTuple):
    """What an estimator makes of one choice, in one lane.

    With `b` the batch shape of the distribution and `e` its event shape:

    Attributes:
        value: the draw, shape `(*b, *e)`. It may carry a derivative, if the estimator is `pathwise`.
        score: log density of what was drawn, the draw itself held fixed; shape `b`. The part of the result
            that depends on the choice is multiplied by `exp(score - stop_gradient(score))`.
        baseline: what is subtracted from that part of the result where it multiplies the score, if it is
            known at the choice; shape `b`. It depends on anything but the draw; its derivative is ignored.
        control: a term of expectation zero that is added to the result; shape `b`.
        phantoms: other values of the choice at which the rest of the program is evaluated too, one
            instance at a time; shape `(J, *b, *e)`.
        weights: of the phantoms; zero in value, but not in derivative; shape `(J, *b)`. Each contributes
            `weight * (result at the phantom - result at the draw)`.
        excess: zero in value; times the result at the draw it is what the weights leave out; shape `b`.
            `None` where they leave out nothing.
    """

    value: Any
    score: Any = None
    baseline: Any = None
    control: Any = None
    phantoms: Any = None
    weights: Any = None
    excess: Any = None


class Differentiated(NamedTuple):
    """A function of the user's that an estimator differentiates along a moving value.

    Attributes:
        function: a pytree, whose arrays are the estimator's.
        argument: shape and dtype of what it is applied to.
    """

    function: Any
    argument: Any


class Estimator(ABC):
    """How a choice turns into a draw, and how derivatives flow through it.

    An estimator is a frozen dataclass and a pytree: its array fields (a baseline) may be traced.

    Attributes:
        usage: how a user writes it, for messages; by default the name of the class, without arguments.
        pathwise: whether the draw itself carries the derivative.
        joint: whether the choice, where it is a single one outside loops, lanes and branches, is summed
            over exactly instead of drawn.
        biased: whether the derivative, and perhaps the value, is biased: the promise that a derivative has
            the right expected value then does not hold for what depends on the choice. Such an estimator says
            so in the first line of its docstring, is used only where it is named, and is listed apart in
            messages.
        needs: what it needs of a choice, for the message of a refusal.
        together: whether a phantom replaces all lanes of the choice and all entries of an array at once,
            each an instance with a weight of its own, instead of one instance at a time. In a loop, steps
            are still replaced one at a time. Such weights are right for a first derivative only.
        score_beyond_first: whether `contribute` of order 2 returns a score and no phantoms, because
            weights and phantoms are right for a first derivative only.
        excess_beyond_first: whether `contribute` of order 2, and only that, may return an excess.
        corrects: constants at which the value may cross a comparison, because phantoms account for the jump.
    """

    pathwise: ClassVar[bool] = False
    joint: ClassVar[bool] = False
    biased: ClassVar[bool] = False
    together: ClassVar[bool] = False
    usage: ClassVar[str] = ""
    needs: ClassVar[str] = ""
    score_beyond_first: ClassVar[bool] = False
    excess_beyond_first: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        cls.usage = cls.__dict__.get("usage", f"{cls.__name__}()")

    @property
    def corrects(self) -> tuple[float, ...]:
        """The constants that a pathwise value may be compared with."""
        return ()

    @abstractmethod
    def admits(self, distribution: Any) -> bool:
        """Whether the estimator exists for this distribution."""

    @abstractmethod
    def contribute(self, distribution: Any, noise: Noise, order: int) -> Contribution:
        """The draw and what it puts into the surrogate.

        `order` is 1 if the surrogate will be differentiated once, 2 if perhaps more often. An estimator that
        does not know second derivatives raises `UnsupportedProgram` for the latter.
        """

    def log_density(self, distribution: Any, value: Any) -> Any:
        """The log density of a value as this estimator draws it; of a relaxed one, as far as there is one."""
        return log_density(distribution, value)

    def differentiates(self, distribution: Any) -> tuple[Differentiated, ...]:
        """The functions of the user's that `contribute` differentiates along a moving value.

        One that jumps is refused when the program is staged, as a jump of the program itself is.
        """
        return ()

    def prepare(self, support: Any) -> Estimator:
        """The estimator, told the finite support of the choice (`None` if there is none)."""
        return self


def magic_box(log_weight: Any) -> Any:
    """`exp(l - stop_gradient(l))`: one in value, with the derivatives of `exp(l)` relative to itself.

    Reference: Foerster, Farquhar, Al-Shedivat, Rocktäschel, Xing, Whiteson, "DiCE: The infinitely
    differentiable Monte Carlo estimator", 2018.
    """
    return jax.numpy.exp(log_weight - jax.lax.stop_gradient(log_weight))


def moved(x: Any) -> Any:
    """`x - stop_gradient(x)`: zero in value, with the derivatives of `x`."""
    return x - jax.lax.stop_gradient(x)
