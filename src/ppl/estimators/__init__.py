"""Gradient estimators: how a random choice turns into a draw and how derivatives flow through it."""

from ppl.estimators import baselines as baselines
from ppl.estimators.arm import ARM as ARM
from ppl.estimators.disarm import DisARM as DisARM
from ppl.estimators.enumerate import Enumerate as Enumerate
from ppl.estimators.leave_one_out import LeaveOneOut as LeaveOneOut
from ppl.estimators.measure_valued import MeasureValued as MeasureValued
from ppl.estimators.protocol import Contribution as Contribution
from ppl.estimators.protocol import Estimator as Estimator
from ppl.estimators.protocol import magic_box as magic_box
from ppl.estimators.reinforce import Reinforce as Reinforce
from ppl.estimators.reparam import Reparam as Reparam
from ppl.estimators.stochastic_triple import StochasticTriple as StochasticTriple
from ppl.estimators.unordered_set import UnorderedSet as UnorderedSet
