"""The families, lower-case, with NumPyro's parameters.

A parameter that is an array gives an array of independent draws; parameters broadcast against each other.
`dist` takes any other NumPyro distribution. Each returns a measure: `normal(0.0, 1.0) @ "x"` draws inside
a program, `.log_density(x)` and `.simulate(key)` work anywhere. All raise `ParameterError` for parameters
that do not fit together or, where their values are known, lie outside their domains.
"""

from __future__ import annotations

from typing import Any

import numpyro.distributions as npd

from ppl.distributions.construct import counts, exactly_one, family, multinomial_of
from ppl.distributions.flip import Flip
from ppl.distributions.one_hot import OneHotCategoricalLogits, OneHotCategoricalProbs
from ppl.errors import ParameterError
from ppl.measure import Measure
from ppl.source import user_line


def normal(loc: Any = 0.0, scale: Any = 1.0) -> Measure:
    """The normal distribution of mean `loc` and standard deviation `scale`.

    Example:
        >>> import ppl
        >>> ppl.normal(0.0, 1.0).log_density(0.0).round(4).item()
        -0.9189
    """
    return family("normal", npd.Normal, loc=loc, scale=scale)


def log_normal(loc: Any = 0.0, scale: Any = 1.0) -> Measure:
    """The exponential of a normal variable."""
    return family("log_normal", npd.LogNormal, loc=loc, scale=scale)


def half_normal(scale: Any = 1.0) -> Measure:
    """The absolute value of a normal variable of mean zero."""
    return family("half_normal", npd.HalfNormal, scale=scale)


def truncated_normal(loc: Any = 0.0, scale: Any = 1.0, *, low: Any = None, high: Any = None) -> Measure:
    """A normal variable given that it lies between `low` and `high`, either of which may be left out."""
    return family("truncated_normal", npd.TruncatedNormal, loc=loc, scale=scale, low=low, high=high)


def laplace(loc: Any = 0.0, scale: Any = 1.0) -> Measure:
    """The double exponential distribution."""
    return family("laplace", npd.Laplace, loc=loc, scale=scale)


def cauchy(loc: Any = 0.0, scale: Any = 1.0) -> Measure:
    """The Cauchy distribution."""
    return family("cauchy", npd.Cauchy, loc=loc, scale=scale)


def half_cauchy(scale: Any = 1.0) -> Measure:
    """The absolute value of a Cauchy variable about zero."""
    return family("half_cauchy", npd.HalfCauchy, scale=scale)


def student_t(df: Any, loc: Any = 0.0, scale: Any = 1.0) -> Measure:
    """Student's t distribution with `df` degrees of freedom."""
    return family("student_t", npd.StudentT, df=df, loc=loc, scale=scale)


def gumbel(loc: Any = 0.0, scale: Any = 1.0) -> Measure:
    """The Gumbel distribution of maxima."""
    return family("gumbel", npd.Gumbel, loc=loc, scale=scale)


def logistic(loc: Any = 0.0, scale: Any = 1.0) -> Measure:
    """The logistic distribution."""
    return family("logistic", npd.Logistic, loc=loc, scale=scale)


def uniform(low: Any = 0.0, high: Any = 1.0) -> Measure:
    """The uniform distribution between `low` and `high`."""
    return family("uniform", npd.Uniform, low=low, high=high)


def exponential(rate: Any = 1.0) -> Measure:
    """The exponential distribution of mean `1 / rate`."""
    return family("exponential", npd.Exponential, rate=rate)


def gamma(concentration: Any, rate: Any = 1.0) -> Measure:
    """The gamma distribution of mean `concentration / rate`."""
    return family("gamma", npd.Gamma, concentration=concentration, rate=rate)


def inverse_gamma(concentration: Any, rate: Any = 1.0) -> Measure:
    """The reciprocal of a gamma variable."""
    return family("inverse_gamma", npd.InverseGamma, concentration=concentration, rate=rate)


def chi2(df: Any) -> Measure:
    """The sum of `df` squared standard normal variables."""
    return family("chi2", npd.Chi2, df=df)


def beta(concentration1: Any, concentration0: Any) -> Measure:
    """The beta distribution of mean `concentration1 / (concentration1 + concentration0)`."""
    return family("beta", npd.Beta, concentration1=concentration1, concentration0=concentration0)


def weibull(scale: Any, concentration: Any) -> Measure:
    """The Weibull distribution: `(x / scale) ** concentration` is exponential."""
    return family("weibull", npd.Weibull, scale=scale, concentration=concentration)


def pareto(scale: Any, alpha: Any) -> Measure:
    """The Pareto distribution above `scale`, of tail index `alpha`."""
    return family("pareto", npd.Pareto, scale=scale, alpha=alpha)


def von_mises(loc: Any, concentration: Any) -> Measure:
    """The von Mises distribution of an angle, on [-pi, pi).

    A reparameterised draw keeps the ends of the interval where they are, so that gradients are unbiased
    for programs that are not periodic in the angle too. If yours is periodic,
    `von_mises(0.0, concentration) @ "turn"` plus `loc` has gradients of lower variance.
    """
    return family("von_mises", npd.VonMises, loc=loc, concentration=concentration)


def flip(probs: Any = 0.5) -> Measure:
    """A truth value, true with probability `probs`."""
    return family("flip", Flip, probs=probs)


def bernoulli(probs: Any = None, *, logits: Any = None) -> Measure:
    """Zero or one; give `probs` or `logits`."""
    exactly_one("bernoulli", probs=probs, logits=logits)
    return family("bernoulli", npd.Bernoulli, probs=probs, logits=logits)


def categorical(probs: Any = None, *, logits: Any = None) -> Measure:
    """An index of the last axis of `probs` or of unnormalised log probabilities `logits`."""
    exactly_one("categorical", probs=probs, logits=logits)
    return family("categorical", npd.Categorical, probs=probs, logits=logits)


def one_hot_categorical(probs: Any = None, *, logits: Any = None) -> Measure:
    """One of K categories as a one-hot vector of floats along the last axis; give `probs` or `logits`.

    The log density is linear in the value, so that relaxed values, on the simplex, have one too.

    Example:
        >>> import ppl
        >>> ppl.families.one_hot_categorical([0.5, 0.25, 0.25]).log_density([0.0, 1.0, 0.0]).round(4).item()
        -1.3863
    """
    exactly_one("one_hot_categorical", probs=probs, logits=logits)
    cls = OneHotCategoricalProbs if logits is None else OneHotCategoricalLogits
    return family("one_hot_categorical", cls, probs=probs, logits=logits)


def discrete_uniform(low: Any = 0, high: Any = 1) -> Measure:
    """An integer from `low` to `high`, both included."""
    low, high = counts("discrete_uniform", "low", low), counts("discrete_uniform", "high", high)
    return family("discrete_uniform", npd.DiscreteUniform, ("low", "high"), low=low, high=high)


def poisson(rate: Any) -> Measure:
    """The Poisson distribution of mean `rate`."""
    return family("poisson", npd.Poisson, rate=rate)


def geometric(probs: Any = None, *, logits: Any = None) -> Measure:
    """The number of failures before the first success."""
    exactly_one("geometric", probs=probs, logits=logits)
    return family("geometric", npd.Geometric, probs=probs, logits=logits)


def binomial(total_count: Any = 1, probs: Any = None, *, logits: Any = None) -> Measure:
    """The number of successes among `total_count` trials."""
    exactly_one("binomial", probs=probs, logits=logits)
    count = counts("binomial", "total_count", total_count)
    return family("binomial", npd.Binomial, ("total_count",), total_count=count, probs=probs, logits=logits)


def negative_binomial(total_count: Any, probs: Any = None, *, logits: Any = None) -> Measure:
    """The number of successes before `total_count` failures; `total_count` need not be an integer."""
    exactly_one("negative_binomial", probs=probs, logits=logits)
    cls = npd.NegativeBinomialProbs if logits is None else npd.NegativeBinomialLogits
    return family("negative_binomial", cls, total_count=total_count, probs=probs, logits=logits)


def multinomial(total_count: int = 1, probs: Any = None, *, logits: Any = None) -> Measure:
    """Counts of each category among `total_count` draws, a Python integer, along the last axis."""
    exactly_one("multinomial", probs=probs, logits=logits)
    if not isinstance(total_count, int):
        raise ParameterError(
            f"multinomial: total_count must be a Python integer, the same for all instances, got "
            f"{total_count!r} ({user_line()})."
        )
    return family("multinomial", multinomial_of(total_count), probs=probs, logits=logits)


def dirichlet(concentration: Any) -> Measure:
    """A vector of probabilities along the last axis."""
    return family("dirichlet", npd.Dirichlet, concentration=concentration)


def multivariate_normal(
    loc: Any = 0.0, covariance_matrix: Any = None, precision_matrix: Any = None, scale_tril: Any = None
) -> Measure:
    """The normal distribution of a vector; give the covariance, its inverse, or its Cholesky factor."""
    matrices = {
        "covariance_matrix": covariance_matrix,
        "precision_matrix": precision_matrix,
        "scale_tril": scale_tril,
    }
    exactly_one("multivariate_normal", **matrices)
    return family("multivariate_normal", npd.MultivariateNormal, loc=loc, **matrices)


def low_rank_multivariate_normal(loc: Any, cov_factor: Any, cov_diag: Any) -> Measure:
    """The normal distribution of covariance `cov_factor @ cov_factor.T + diag(cov_diag)`."""
    return family(
        "low_rank_multivariate_normal",
        npd.LowRankMultivariateNormal,
        loc=loc,
        cov_factor=cov_factor,
        cov_diag=cov_diag,
    )
