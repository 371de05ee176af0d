"""Gradient estimators: how a random choice turns into a draw and how derivatives flow through it.

Every estimator is unbiased, or the program is refused, but for those that set `biased = True`:
`GumbelSoftmax`, `StraightThrough`, `GumbelRao` and `Unscored`. Their derivatives do not have the right
expected value; they trade that for a low variance. The library never picks one: a choice has it only where
a program names it, no default is one, and messages list them apart, after "biased:". Whatever else the
program makes stays as sound as it was: other choices keep unbiased derivatives of the program *in which the
biased choice is relaxed as it is*, and the check for jumps looks at all of it.
"""

from ppl.estimators import baselines as baselines
from ppl.estimators.antithetic import Antithetic as Antithetic
from ppl.estimators.arm import ARM as ARM
from ppl.estimators.boundary_corrected import BoundaryCorrected as BoundaryCorrected
from ppl.estimators.disarm import DisARM as DisARM
from ppl.estimators.enumeration import Enumerate as Enumerate
from ppl.estimators.generalized_reparam import GeneralizedReparam as GeneralizedReparam
from ppl.estimators.gumbel_rao import GumbelRao as GumbelRao
from ppl.estimators.gumbel_softmax import GumbelSoftmax as GumbelSoftmax
from ppl.estimators.leave_one_out import LeaveOneOut as LeaveOneOut
from ppl.estimators.measure_valued import MeasureValued as MeasureValued
from ppl.estimators.protocol import Contribution as Contribution
from ppl.estimators.protocol import Estimator as Estimator
from ppl.estimators.protocol import magic_box as magic_box
from ppl.estimators.quasi_monte_carlo import QuasiMonteCarlo as QuasiMonteCarlo
from ppl.estimators.rebar import Rebar as Rebar
from ppl.estimators.reinforce import Reinforce as Reinforce
from ppl.estimators.rejection_reparam import RejectionReparam as RejectionReparam
from ppl.estimators.relax import Relax as Relax
from ppl.estimators.reparam import Reparam as Reparam
from ppl.estimators.stochastic_triple import StochasticTriple as StochasticTriple
from ppl.estimators.straight_through import StraightThrough as StraightThrough
from ppl.estimators.unordered_set import UnorderedSet as UnorderedSet
from ppl.estimators.unscored import Unscored as Unscored
