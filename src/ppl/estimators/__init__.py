"""Gradient estimators: how a random choice turns into a draw and how derivatives flow through it."""

from ppl.estimators import baselines as baselines
from ppl.estimators.antithetic import Antithetic as Antithetic
from ppl.estimators.enumerate import Enumerate as Enumerate
from ppl.estimators.measure_valued import MeasureValued as MeasureValued
from ppl.estimators.protocol import Contribution as Contribution
from ppl.estimators.protocol import Estimator as Estimator
from ppl.estimators.protocol import magic_box as magic_box
from ppl.estimators.quasi_monte_carlo import QuasiMonteCarlo as QuasiMonteCarlo
from ppl.estimators.reinforce import Reinforce as Reinforce
from ppl.estimators.reparam import Reparam as Reparam
