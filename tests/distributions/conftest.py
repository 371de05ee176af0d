"""One representative instance of each family, over which all laws here run."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.stats as st

from ppl.distributions.flip import Flip


class Example(NamedTuple):
    """An instance, the same law in SciPy (scalars only), and points outside its support."""

    make: Callable[[], Any]
    scipy: Any = None
    outside: tuple[Any, ...] = ()


def _kumaraswamy(a: float, b: float) -> Any:
    class Law(st.rv_continuous):
        def _pdf(self, x):
            return a * b * x ** (a - 1) * (1 - x**a) ** (b - 1)

        def _cdf(self, x):
            return 1 - (1 - x**a) ** b

    return Law(a=0.0, b=1.0)()


CONTINUOUS: dict[str, Example] = {
    "normal": Example(lambda: npd.Normal(0.7, 1.3), st.norm(0.7, 1.3)),
    "log_normal": Example(lambda: npd.LogNormal(0.2, 0.6), st.lognorm(0.6, scale=np.exp(0.2)), (-1.0, 0.0)),
    "half_normal": Example(lambda: npd.HalfNormal(1.4), st.halfnorm(scale=1.4), (-1.0,)),
    "truncated_normal": Example(
        lambda: npd.TruncatedNormal(0.3, 1.2, low=-0.5, high=2.0),
        st.truncnorm(-0.8 / 1.2, 1.7 / 1.2, 0.3, 1.2),
        (-1.0, 2.5),
    ),
    "left_truncated_normal": Example(
        lambda: npd.TruncatedNormal(0.3, 1.2, low=-0.5), st.truncnorm(-0.8 / 1.2, np.inf, 0.3, 1.2), (-1.0,)
    ),
    "right_truncated_cauchy": Example(lambda: npd.TruncatedCauchy(0.3, 1.2, high=1.0), None, (1.5,)),
    "laplace": Example(lambda: npd.Laplace(-0.4, 0.8), st.laplace(-0.4, 0.8)),
    "soft_laplace": Example(lambda: npd.SoftLaplace(-0.4, 0.8), st.hypsecant(-0.4, 0.8)),
    "asymmetric_laplace": Example(
        lambda: npd.AsymmetricLaplace(0.1, 0.9, 1.6), st.laplace_asymmetric(1.6, 0.1, 0.9)
    ),
    "cauchy": Example(lambda: npd.Cauchy(0.5, 1.1), st.cauchy(0.5, 1.1)),
    "half_cauchy": Example(lambda: npd.HalfCauchy(1.1), st.halfcauchy(scale=1.1), (-0.5,)),
    "student_t": Example(lambda: npd.StudentT(3.5, 0.5, 1.2), st.t(3.5, 0.5, 1.2)),
    "gumbel": Example(lambda: npd.Gumbel(0.5, 1.2), st.gumbel_r(0.5, 1.2)),
    "logistic": Example(lambda: npd.Logistic(0.5, 1.2), st.logistic(0.5, 1.2)),
    "uniform": Example(lambda: npd.Uniform(-1.0, 2.5), st.uniform(-1.0, 3.5), (-1.5, 2.6)),
    "log_uniform": Example(lambda: npd.LogUniform(0.5, 3.0), st.loguniform(0.5, 3.0), (0.4, 3.1, -1.0)),
    "exponential": Example(lambda: npd.Exponential(1.7), st.expon(scale=1 / 1.7), (-1.0,)),
    "gamma": Example(lambda: npd.Gamma(2.3, 1.7), st.gamma(2.3, scale=1 / 1.7), (-1.0, 0.0)),
    "inverse_gamma": Example(lambda: npd.InverseGamma(3.3, 1.7), st.invgamma(3.3, scale=1.7), (-1.0, 0.0)),
    "chi2": Example(lambda: npd.Chi2(3.7), st.chi2(3.7), (-1.0,)),
    "beta": Example(lambda: npd.Beta(2.1, 3.2), st.beta(2.1, 3.2), (-0.1, 1.1)),
    "kumaraswamy": Example(lambda: npd.Kumaraswamy(2.1, 3.2), _kumaraswamy(2.1, 3.2), (-0.1, 1.1)),
    "weibull": Example(lambda: npd.Weibull(1.4, 2.2), st.weibull_min(2.2, scale=1.4), (-1.0, 0.0)),
    "pareto": Example(lambda: npd.Pareto(1.3, 3.5), st.pareto(3.5, scale=1.3), (1.2, -1.0)),
    "levy": Example(lambda: npd.Levy(0.3, 1.2), st.levy(0.3, 1.2), (0.2,)),
    "gompertz": Example(lambda: npd.Gompertz(0.8, 1.5), st.gompertz(0.8, scale=1 / 1.5), (-1.0,)),
    "von_mises": Example(lambda: npd.VonMises(0.8, 2.3), None, (3.5, -4.0)),
    "folded_normal": Example(
        lambda: npd.FoldedDistribution(npd.Normal(0.7, 1.3)), st.foldnorm(0.7 / 1.3, scale=1.3), (-1.0,)
    ),
    "dagum": Example(lambda: npd.Dagum(1.3, 2.5, 1.2), st.burr(2.5, 1.3, scale=1.2), (-1.0,)),
    "asymmetric_laplace_quantile": Example(lambda: npd.AsymmetricLaplaceQuantile(0.1, 0.9, 0.3)),
    "lower_truncated_power_law": Example(
        lambda: npd.LowerTruncatedPowerLaw(-2.5, 0.7), st.pareto(1.5, scale=0.7), (0.6, -1.0)
    ),
    "doubly_truncated_power_law": Example(
        lambda: npd.DoublyTruncatedPowerLaw(-1.7, 0.7, 3.0),
        st.truncpareto(0.7, 3 / 0.7, scale=0.7),
        (0.6, 3.1),
    ),
    "left_truncated_gamma": Example(
        lambda: npd.LeftTruncatedGamma(npd.Gamma(2.3, 1.7), 0.5), None, (0.4, -1.0)
    ),
    "two_sided_truncated_gamma": Example(
        lambda: npd.TwoSidedTruncatedGamma(npd.Gamma(2.3, 1.7), 0.5, 2.0), None, (0.4, 2.1)
    ),
    "shifted_exponential": Example(
        lambda: npd.TransformedDistribution(npd.Exponential(1.7), npd.transforms.AffineTransform(3.0, 2.0)),
        st.expon(3.0, 2.0 / 1.7),
        (2.9, -4.0),
    ),
    "mixture": Example(
        lambda: npd.MixtureSameFamily(
            npd.CategoricalProbs(jnp.array([0.3, 0.7])),
            npd.Normal(jnp.array([-2.0, 1.0]), jnp.array([0.5, 1.0])),
        )
    ),
}

DISCRETE: dict[str, Example] = {
    "flip": Example(lambda: Flip(0.3), st.bernoulli(0.3)),
    "bernoulli": Example(lambda: npd.BernoulliProbs(0.3), st.bernoulli(0.3), (2, -1, 0.5)),
    "bernoulli_logits": Example(
        lambda: npd.BernoulliLogits(-0.4), st.bernoulli(1 / (1 + np.exp(0.4))), (2, -1, 0.5)
    ),
    "categorical": Example(
        lambda: npd.CategoricalProbs(jnp.array([0.2, 0.5, 0.3])),
        st.rv_discrete(values=([0, 1, 2], [0.2, 0.5, 0.3])),
        (3, 5, -1, 0.5),
    ),
    "categorical_logits": Example(
        lambda: npd.CategoricalLogits(jnp.array([0.0, np.log(4.0), np.log(5.0)])),
        st.rv_discrete(values=([0, 1, 2], [0.1, 0.4, 0.5])),
        (3, 5, -1, 0.5),
    ),
    "discrete_uniform": Example(lambda: npd.DiscreteUniform(-2, 3), st.randint(-2, 4), (-3, 4, 0.5)),
    "poisson": Example(lambda: npd.Poisson(2.6), st.poisson(2.6), (-1, 2.5)),
    "geometric": Example(lambda: npd.GeometricProbs(0.35), st.geom(0.35, -1), (-1, 0.5)),
    "geometric_logits": Example(
        lambda: npd.GeometricLogits(-0.6), st.geom(1 / (1 + np.exp(0.6)), -1), (-1, 0.5)
    ),
    "binomial": Example(lambda: npd.BinomialProbs(0.3, 7), st.binom(7, 0.3), (-1, 8, 0.5)),
    "negative_binomial": Example(lambda: npd.NegativeBinomialProbs(3.5, 0.4), st.nbinom(3.5, 0.6), (-1, 0.5)),
    "zero_inflated": Example(lambda: npd.ZeroInflatedPoisson(0.3, 2.0), None, (-1, 1.5)),
    "bernoulli_mixture": Example(
        lambda: npd.MixtureSameFamily(
            npd.CategoricalProbs(jnp.array([0.3, 0.7])), npd.BernoulliProbs(jnp.array([0.2, 0.6]))
        ),
        st.bernoulli(0.48),
        (2, -1),
    ),
}

_TRIL = jnp.array([[1.2, 0.0, 0.0], [0.3, 0.9, 0.0], [-0.4, 0.2, 0.7]])
_LOC = jnp.array([0.5, -1.0, 0.2])

VECTOR: dict[str, Example] = {
    "multivariate_normal": Example(lambda: npd.MultivariateNormal(_LOC, scale_tril=_TRIL)),
    "low_rank_multivariate_normal": Example(
        lambda: npd.LowRankMultivariateNormal(_LOC, _TRIL[:, :2], jnp.array([0.5, 0.3, 0.2]))
    ),
    "multivariate_student_t": Example(lambda: npd.MultivariateStudentT(6.5, _LOC, _TRIL)),
    "gaussian_random_walk": Example(lambda: npd.GaussianRandomWalk(0.8, 3)),
    "independent_gamma": Example(
        lambda: npd.Gamma(jnp.array([1.5, 2.5, 3.5]), 1.3).to_event(1), None, (np.array([1.0, -1.0, 2.0]),)
    ),
    "dirichlet": Example(
        lambda: npd.Dirichlet(jnp.array([1.5, 0.7, 2.8])),
        None,
        (np.array([0.5, 0.6, -0.1]), np.array([0.2, 0.2, 0.2])),
    ),
    "conditional_autoregression": Example(
        lambda: npd.CAR(_LOC, 0.4, 1.2, np.array([[0.0, 1, 1], [1, 0, 0], [1, 0, 0]]))
    ),
    "wishart": Example(lambda: npd.Wishart(4.5, scale_tril=_TRIL)),
    "inverse_wishart_cholesky": Example(lambda: npd.InverseWishartCholesky(4.5, scale_tril=_TRIL)),
    "lkj_cholesky": Example(lambda: npd.LKJCholesky(3, 1.7)),
    "lkj_by_vines": Example(lambda: npd.LKJ(3, 1.7, "cvine")),
    "gaussian_copula": Example(
        lambda: npd.GaussianCopula(npd.Gumbel(0.3, 1.2), jnp.array([[1.0, 0.4], [0.4, 1.0]]))
    ),
    "mixture_of_vectors": Example(
        lambda: npd.MixtureSameFamily(
            npd.CategoricalProbs(jnp.array([0.3, 0.7])),
            npd.Gamma(jnp.array([[1.5, 2.5], [0.6, 3.0]]), 1.3).to_event(1),
        )
    ),
    "general_mixture": Example(
        lambda: npd.MixtureGeneral(
            npd.CategoricalProbs(jnp.array([0.3, 0.7])),
            [npd.Gamma(1.5, 1.0), npd.LogNormal(0.0, 0.5)],
        )
    ),
    "projected_normal": Example(
        lambda: npd.ProjectedNormal(jnp.array([0.5, 1.0, -0.3])), None, (np.array([2.0, 0.0, 0.0]),)
    ),
    "multinomial": Example(
        lambda: npd.MultinomialProbs(jnp.array([0.2, 0.5, 0.3]), 4),
        None,
        (np.array([2, 1, 0]), np.array([5, -1, 0])),
    ),
}

EXAMPLES: dict[str, Example] = {**CONTINUOUS, **DISCRETE, **VECTOR}


def _in_scipy(table: dict[str, Example]) -> dict[str, Example]:
    return {name: example for name, example in table.items() if example.scipy is not None}


_GROUPS = {
    "example": EXAMPLES,
    "continuous": CONTINUOUS,
    "discrete": DISCRETE,
    "vector": VECTOR,
    "continuous_in_scipy": _in_scipy(CONTINUOUS),
    "discrete_in_scipy": _in_scipy(DISCRETE),
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """A test that takes `example` (or `continuous`, `discrete`, `vector`) runs over that whole table."""
    for fixture, table in _GROUPS.items():
        if fixture in metafunc.fixturenames:
            metafunc.parametrize(fixture, table.values(), ids=table.keys())
