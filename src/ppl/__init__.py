"""Programmable variational inference in JAX.

Models and variational families are generative functions, objectives are programs over their densities and
expectations, and unbiased gradient estimators are derived from the program.
"""

import importlib
from typing import TYPE_CHECKING, Any

from ppl import errors as errors
from ppl import estimators as estimators
from ppl import families as families
from ppl import guides as guides
from ppl import infer as infer
from ppl import objectives as objectives
from ppl.choices import Choices as Choices
from ppl.detached import detached as detached
from ppl.errors import DiscontinuousReparameterization as DiscontinuousReparameterization
from ppl.errors import PPLError as PPLError
from ppl.errors import UnsupportedProgram as UnsupportedProgram
from ppl.expectation import Expectation as Expectation
from ppl.expectation import expect as expect
from ppl.expectation import expectation as expectation
from ppl.families import bernoulli as bernoulli
from ppl.families import beta as beta
from ppl.families import binomial as binomial
from ppl.families import categorical as categorical
from ppl.families import dirichlet as dirichlet
from ppl.families import dist as dist
from ppl.families import exponential as exponential
from ppl.families import flip as flip
from ppl.families import gamma as gamma
from ppl.families import geometric as geometric
from ppl.families import half_normal as half_normal
from ppl.families import laplace as laplace
from ppl.families import log_normal as log_normal
from ppl.families import mixture as mixture
from ppl.families import multivariate_normal as multivariate_normal
from ppl.families import normal as normal
from ppl.families import poisson as poisson
from ppl.families import student_t as student_t
from ppl.families import uniform as uniform
from ppl.families import von_mises as von_mises
from ppl.marginal import marginal as marginal
from ppl.measure import Measure as Measure
from ppl.normalized import normalize as normalize
from ppl.objectives import dreg as dreg
from ppl.objectives import elbo as elbo
from ppl.objectives import forward_kl as forward_kl
from ppl.objectives import iwelbo as iwelbo
from ppl.objectives import scaled as scaled
from ppl.objectives import sticking_the_landing as sticking_the_landing
from ppl.objectives import vargrad as vargrad
from ppl.objectives import vimco as vimco
from ppl.program import GenerativeFunction as GenerativeFunction
from ppl.program import gen as gen
from ppl.report.search import choose_estimators as choose_estimators
from ppl.report.variance import VarianceReport as VarianceReport
from ppl.report.variance import variance_report as variance_report
from ppl.runtime_checks import checks as checks
from ppl.trace import Trace as Trace
from ppl.train.fit import FitResult as FitResult
from ppl.train.fit import fit as fit
from ppl.transforms.one_term import one_term as one_term
from ppl.transforms.vouched import continuous as continuous
from ppl.unconstrained import unconstrained as unconstrained

if TYPE_CHECKING:
    from ppl import testing as testing


def __getattr__(name: str) -> Any:
    """`ppl.testing` is imported on first use: it needs SciPy's statistics, which take a while to import."""
    if name == "testing":
        return importlib.import_module("ppl.testing")
    raise AttributeError(f"module 'ppl' has no attribute {name!r}")
