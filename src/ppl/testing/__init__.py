"""What users check their own programs with: estimators against the truth, posteriors against their models."""

from ppl.testing.calibration import Calibration as Calibration
from ppl.testing.calibration import calibrate as calibrate
from ppl.testing.check import Biased as Biased
from ppl.testing.check import Unresolved as Unresolved
from ppl.testing.check import check_unbiased as check_unbiased
from ppl.testing.coverage import Coverage as Coverage
from ppl.testing.khat import KhatReport as KhatReport
from ppl.testing.khat import psis_khat as psis_khat
from ppl.testing.pareto import Weights as Weights
from ppl.testing.report import BiasReport as BiasReport
from ppl.testing.worlds import NotIntegrable as NotIntegrable
