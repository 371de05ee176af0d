"""Programmable variational inference in JAX: objectives are programs, gradient estimators are derived."""

from ppl import estimators as estimators
from ppl.choices import Choices as Choices
from ppl.errors import ChoiceDtypeError as ChoiceDtypeError
from ppl.errors import ChoiceOutsideProgram as ChoiceOutsideProgram
from ppl.expectation import Expectation as Expectation
from ppl.expectation import expect as expect
from ppl.expectation import expectation as expectation
from ppl.measure import Measure as Measure
from ppl.objectives import elbo as elbo
from ppl.objectives import forward_kl as forward_kl
from ppl.objectives import iwelbo as iwelbo
from ppl.program import GenerativeFunction as GenerativeFunction
from ppl.program import gen as gen
from ppl.runtime_checks import checks as checks
from ppl.trace import Trace as Trace
from ppl.transforms.vouched import continuous as continuous
