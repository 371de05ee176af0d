"""Ready-made variational families, as programs over any conditioned model."""

from ppl.guides.amortized import Amortized as Amortized
from ppl.guides.asvi import ASVI as ASVI
from ppl.guides.flow import Flow as Flow
from ppl.guides.full_rank import FullRank as FullRank
from ppl.guides.laplace import Laplace as Laplace
from ppl.guides.laplace import laplace as laplace
from ppl.guides.low_rank import LowRank as LowRank
from ppl.guides.mean_field import MeanField as MeanField
from ppl.transported import Transported as Transported
