"""The table of `docs/estimators.md` says which estimators each family admits: it is what the library does.

Every family admits `Reinforce`, `LeaveOneOut` and `Unscored`; the wrappers what they wrap. They are left out.
"""

import re
from collections.abc import Callable
from pathlib import Path

import jax.numpy as jnp
import pytest

import ppl
from ppl import families
from ppl.estimators import Antithetic, LeaveOneOut, QuasiMonteCarlo, Reinforce, Unscored
from ppl.estimators.registry import ESTIMATORS, default_estimator
from ppl.measure import Measure

PAGE = Path(__file__).parents[2] / "docs" / "estimators.md"
EVERYWHERE = (Reinforce, LeaveOneOut, Unscored, Antithetic, QuasiMonteCarlo)
VECTOR = jnp.array([0.2, 0.3, 0.5])
# One member of each family: which estimators there are does not depend on the parameters' values.
MEMBERS: dict[str, Callable[[], Measure]] = {
    "bernoulli": lambda: families.bernoulli(0.3),
    "beta": lambda: families.beta(2.0, 3.0),
    "binomial": lambda: families.binomial(5, 0.3),
    "categorical": lambda: families.categorical(VECTOR),
    "cauchy": lambda: families.cauchy(0.0, 1.0),
    "chi2": lambda: families.chi2(3.0),
    "delta": lambda: families.delta(1.0),
    "dirichlet": lambda: families.dirichlet(VECTOR),
    "discrete_uniform": lambda: families.discrete_uniform(0, 4),
    "exponential": lambda: families.exponential(2.0),
    "flip": lambda: families.flip(0.3),
    "gamma": lambda: families.gamma(2.0, 3.0),
    "geometric": lambda: families.geometric(0.3),
    "gumbel": lambda: families.gumbel(0.0, 1.0),
    "half_cauchy": lambda: families.half_cauchy(1.0),
    "half_normal": lambda: families.half_normal(1.0),
    "inverse_gamma": lambda: families.inverse_gamma(2.0, 3.0),
    "laplace": lambda: families.laplace(0.0, 1.0),
    "log_normal": lambda: families.log_normal(0.0, 1.0),
    "logistic": lambda: families.logistic(0.0, 1.0),
    "low_rank_multivariate_normal": lambda: families.low_rank_multivariate_normal(
        jnp.zeros(2), jnp.ones((2, 1)), jnp.ones(2)
    ),
    "mixture": lambda: families.mixture(families.normal(jnp.zeros(3), 1.0), probs=VECTOR),
    "multinomial": lambda: families.multinomial(5, VECTOR),
    "multivariate_normal": lambda: families.multivariate_normal(jnp.zeros(2), jnp.eye(2)),
    "negative_binomial": lambda: families.negative_binomial(5.0, 0.3),
    "normal": lambda: families.normal(0.0, 1.0),
    "one_hot_categorical": lambda: families.one_hot_categorical(VECTOR),
    "pareto": lambda: families.pareto(1.0, 2.0),
    "poisson": lambda: families.poisson(2.0),
    "student_t": lambda: families.student_t(3.0, 0.0, 1.0),
    "truncated_normal": lambda: families.truncated_normal(0.0, 1.0, low=-1.0, high=1.0),
    "uniform": lambda: families.uniform(0.0, 1.0),
    "von_mises": lambda: families.von_mises(0.0, 1.0),
    "weibull": lambda: families.weibull(1.0, 2.0),
    "zero_inflated": lambda: families.zero_inflated(families.poisson(2.0), gate=0.1),
}


def table() -> dict[str, list[str]]:
    """The rows of the page's table, each without its first cell, which names the family."""
    rows = re.findall(r"^\| `(\w+)` \|(.*)\|$", PAGE.read_text(), re.MULTILINE)
    return {name: [cell.strip() for cell in cells.split("|")] for name, cells in rows if name in MEMBERS}


def admitted(measure: Measure) -> list[str]:
    """The cells of a row: the estimator that nobody has to ask for, and the others that are not refused."""
    default, others = type(default_of(measure)), []
    for estimator in ESTIMATORS:
        if type(estimator) in (default, *EVERYWHERE):
            continue
        try:
            measure.using(estimator)
        except ppl.errors.EstimatorNotAdmitted:
            continue
        name = f"`{type(estimator).__name__}`"
        others.append(f"*{name}*" if estimator.biased else name)
    return [f"`{default.__name__}`", ", ".join(others)]


def default_of(measure: Measure) -> object:
    return default_estimator(measure.numpyro)


def test_the_table_has_a_row_for_every_family():
    public = {name for name, value in vars(families).items() if callable(value) and not name.startswith("_")}
    assert set(table()) == set(MEMBERS) == public - {"dist"}


@pytest.mark.parametrize("name", MEMBERS)
def test_a_row_says_what_the_library_does(name: str):
    assert table()[name] == admitted(MEMBERS[name]())
