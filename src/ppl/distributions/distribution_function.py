"""Distribution functions of univariate families, with derivatives in the value and in every parameter.

Each rule is registered where it is written: one file for each kind of family.
"""

from ppl.distributions.cumulative import composite as _composite
from ppl.distributions.cumulative import implicit as _implicit
from ppl.distributions.cumulative import location_scale as _location_scale
from ppl.distributions.cumulative import of_a_number as _of_a_number
from ppl.distributions.cumulative.composite import mixing_weights as mixing_weights
from ppl.distributions.cumulative.core import distribution_function as distribution_function
from ppl.distributions.cumulative.core import has_distribution_function as has_distribution_function
from ppl.distributions.cumulative.core import log_tails as log_tails
from ppl.distributions.cumulative.core import quantile as quantile
from ppl.distributions.cumulative.core import standardize as standardize

del _composite, _implicit, _location_scale, _of_a_number  # imported for the rules that they register
