"""Checks of inference: of posteriors against their models, and of guides against their targets."""

from ppl.testing.calibration import Calibration as Calibration
from ppl.testing.calibration import calibrate as calibrate
from ppl.testing.coverage import Coverage as Coverage
from ppl.testing.khat import KhatReport as KhatReport
from ppl.testing.khat import psis_khat as psis_khat
from ppl.testing.pareto import Weights as Weights
