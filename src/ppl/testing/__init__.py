"""What users test their own programs and estimators with."""

from ppl.testing.check import Biased as Biased
from ppl.testing.check import Unresolved as Unresolved
from ppl.testing.check import check_unbiased as check_unbiased
from ppl.testing.report import BiasReport as BiasReport
