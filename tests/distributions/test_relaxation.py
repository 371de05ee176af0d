"""The relaxed variables behind a draw: their laws, and that they round to it.

Draws by Kolmogorov and Smirnov; a p-value below 6e-7 fails. Derivatives by finite differences.
"""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
import scipy.stats as st

from ppl.distributions.flip import Flip
from ppl.distributions.one_hot import OneHotCategoricalLogits, OneHotCategoricalProbs
from ppl.distributions.relaxation import relaxation, relaxed_draw, relaxed_given, relaxed_noise
from ppl.distributions.sampling import draw
from ppl.noise import Noise

COUNT = 100_000
LOGITS = np.array([0.7, -1.0, 0.2])
PROBS = np.exp(LOGITS) / np.exp(LOGITS).sum()
COINS = {"flip": Flip(0.3), "probs": npd.BernoulliProbs(0.3), "logits": npd.BernoulliLogits(np.log(3 / 7))}
CATEGORIES = {
    "probs": npd.CategoricalProbs(PROBS),
    "logits": npd.CategoricalLogits(LOGITS),
    "one_hot_probs": OneHotCategoricalProbs(PROBS),
    "one_hot_logits": OneHotCategoricalLogits(LOGITS),
}


def wide(distribution):
    """The same distribution, `COUNT` times."""
    parameter = jnp.asarray(jax.tree.leaves(distribution)[0], jnp.float32)
    return type(distribution)(jnp.broadcast_to(parameter, (COUNT, *parameter.shape)))


def behind(distribution):
    """Draws, and the two relaxed variables behind each."""
    noise = Noise(jax.random.key(3))
    x = draw(distribution, noise)
    return np.asarray(x), relaxed_noise(distribution, x, noise)


@pytest.mark.parametrize("form", COINS)
def test_a_coin_is_a_logistic_variable_above_zero(form):
    distribution = wide(COINS[form])
    x, relaxed = behind(distribution)
    assert np.all((np.asarray(relaxed.z) > 0) == (x == 1))
    assert st.kstest(relaxed.z, st.logistic(np.log(3 / 7)).cdf).pvalue > 6e-7
    assert (
        st.kstest(relaxed_draw(distribution, Noise(jax.random.key(4))), st.logistic(np.log(3 / 7)).cdf).pvalue
        > 6e-7
    )
    np.testing.assert_array_equal(relaxed.z, relaxed.conditional)


@pytest.mark.parametrize("form", CATEGORIES)
def test_a_category_is_the_largest_of_gumbel_variables(form):
    distribution = wide(CATEGORIES[form])
    x, relaxed = behind(distribution)
    index = x if x.ndim == 1 else x.argmax(axis=-1)
    assert np.all(np.asarray(relaxed.z).argmax(axis=-1) == index)
    for z in (np.asarray(relaxed.z), np.asarray(relaxed_draw(distribution, Noise(jax.random.key(4))))):
        for k in range(3):
            assert st.kstest(z[:, k], st.gumbel_r(np.log(PROBS[k])).cdf).pvalue > 6e-7
        # Independent of each other, too: a difference of two is logistic.
        assert st.kstest(z[:, 0] - z[:, 2], st.logistic(LOGITS[0] - LOGITS[2]).cdf).pvalue > 6e-7


def test_given_a_coin_the_quantiles_are_those_of_a_truncated_logistic():
    """z given b, at the quantile v of the law of z cut at zero."""
    location, v = jnp.float32(-0.8), jnp.linspace(0.01, 0.99, 25)
    rule, law = relaxation(Flip(0.3)), st.logistic(-0.8)
    assert rule is not None
    below = law.cdf(0.0)
    above = rule.conditional(location, jnp.float32(1.0), v)
    np.testing.assert_allclose(law.cdf(np.asarray(above)), below + (1 - below) * v, rtol=1e-5)
    # After a zero the mirror image: v counts from above.
    under = rule.conditional(location, jnp.float32(0.0), v)
    np.testing.assert_allclose(law.cdf(np.asarray(under)), below * (1 - v), rtol=1e-5)


def test_derivatives(x64):
    """`z` moves by one with `l`; `conditional` as a finite difference at the same uniform numbers says."""

    def conditional(logits, uniform):
        rule = relaxation(npd.CategoricalLogits(logits))
        assert rule is not None
        return rule.conditional(jax.nn.log_softmax(logits), jnp.array([0.0, 1.0, 0.0]), uniform)

    logits, step, uniform = jnp.asarray(LOGITS), 1e-6, jnp.array([0.3, 0.6, 0.2])
    found = jax.jacobian(conditional)(logits, uniform)
    for k in range(3):
        shift = step * jnp.eye(3)[k]
        wanted = (conditional(logits + shift, uniform) - conditional(logits - shift, uniform)) / (2 * step)
        np.testing.assert_allclose(found[:, k], wanted, atol=1e-8)

    def relaxed(log_odds):
        return relaxed_noise(npd.BernoulliLogits(log_odds), jnp.array(1), Noise(jax.random.key(0))).z

    assert jax.grad(relaxed)(0.3) == 1.0
    given = lambda t: relaxed_given(npd.BernoulliLogits(t), jnp.array(0), Noise(jax.random.key(0)), 4).sum()
    assert jax.grad(given)(0.3) == 4.0


def test_relaxed_variables_given_the_draw_are_independent_and_round_to_it():
    z = relaxed_given(wide(Flip(0.3)), jnp.ones(COUNT, bool), Noise(jax.random.key(0)), 2)
    assert z.shape == (2, COUNT) and jnp.all(z > 0)
    assert abs(np.corrcoef(np.asarray(z))[0, 1]) < 5 / np.sqrt(COUNT)


@pytest.mark.parametrize(
    "make", [npd.Poisson, npd.Exponential, lambda p: npd.Bernoulli(p).to_event(0).expand([2])]
)
def test_other_families_have_none(make):
    assert relaxation(make(0.3)) is None
