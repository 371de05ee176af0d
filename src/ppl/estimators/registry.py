"""All gradient estimators, and which of them a family admits."""

from __future__ import annotations

from typing import Any

import jax.numpy as jnp

from ppl.distributions.density import support_values
from ppl.errors import EstimatorNotAdmitted
from ppl.estimators.antithetic import Antithetic
from ppl.estimators.arm import ARM
from ppl.estimators.boundary_corrected import BoundaryCorrected
from ppl.estimators.disarm import DisARM
from ppl.estimators.enumeration import Enumerate
from ppl.estimators.generalized_reparam import GeneralizedReparam
from ppl.estimators.gumbel_rao import GumbelRao
from ppl.estimators.gumbel_softmax import GumbelSoftmax
from ppl.estimators.leave_one_out import LeaveOneOut
from ppl.estimators.measure_valued import MeasureValued
from ppl.estimators.protocol import Estimator
from ppl.estimators.quasi_monte_carlo import QuasiMonteCarlo
from ppl.estimators.rebar import Rebar
from ppl.estimators.reinforce import Reinforce
from ppl.estimators.rejection_reparam import RejectionReparam
from ppl.estimators.relax import Relax
from ppl.estimators.reparam import Reparam
from ppl.estimators.stochastic_triple import StochasticTriple
from ppl.estimators.straight_through import StraightThrough
from ppl.estimators.unordered_set import UnorderedSet
from ppl.estimators.unscored import Unscored

ESTIMATORS: tuple[Estimator, ...] = (
    Reparam(),
    GeneralizedReparam(),
    RejectionReparam(),
    BoundaryCorrected(at=(0.0,)),
    Enumerate(),
    MeasureValued(),
    StochasticTriple(),
    UnorderedSet(samples=2),
    DisARM(),
    ARM(),
    Rebar(jnp.sum),
    Relax(jnp.sum),
    LeaveOneOut(samples=2),
    Reinforce(),
    Antithetic(),
    QuasiMonteCarlo(),
    GumbelSoftmax(1.0),
    GumbelRao(1.0),
    StraightThrough(),
    Unscored(),
)
"""One of every estimator, in the order in which messages list them. A new one is a file and an entry here."""

FEW = 16
"""How many values the support of a single choice may have to be enumerated by default."""


def admissible(distribution: Any, *, biased: bool = False) -> list[str]:
    """The estimators that exist for a distribution, as a user writes them: the unbiased, or the biased."""
    return [e.usage for e in ESTIMATORS if e.biased == biased and e.admits(distribution)]


def candidates(distribution: Any, support: Any = None) -> tuple[Estimator, ...]:
    """The unbiased estimators that exist for a distribution and need no arguments of the user's.

    `support` are the values of the choice, where they are finitely many and known.
    """
    ready = [e for e in ESTIMATORS if not e.biased and e.usage.endswith("()")]
    return tuple(e for e in ready if e.prepare(support).admits(distribution))


def default_estimator(distribution: Any) -> Estimator:
    """Reparameterized where the family can be, else summed over if there are few values, else scored."""
    if Reparam().admits(distribution):
        return Reparam()
    support = support_values(distribution)
    if support is not None and len(support) <= FEW and distribution.batch_shape == ():
        return Enumerate()
    return Reinforce()


def check_admitted(estimator: Any, distribution: Any, where: str) -> None:
    """Refuse an estimator that does not exist for the family.

    Raises:
        EstimatorNotAdmitted: names the choice and the estimators that do exist.
    """
    if not isinstance(estimator, Estimator):
        raise EstimatorNotAdmitted(
            f"{estimator!r}, chosen for {where}, is not a gradient estimator. Use an instance of one, "
            f"such as ppl.estimators.{admissible(distribution)[0]}."
        )
    if not estimator.admits(distribution):
        biased = admissible(distribution, biased=True)
        raise EstimatorNotAdmitted(
            f"{type(estimator).__name__} does not exist for {where}. {estimator.needs}This family admits "
            f"{', '.join(admissible(distribution))}{'; biased: ' if biased else ''}{', '.join(biased)}."
        )
