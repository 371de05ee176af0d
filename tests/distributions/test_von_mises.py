"""The derivative of von Mises draws in the concentration, against adaptive quadrature."""

import jax.numpy as jnp
import numpy as np
import pytest
import scipy.integrate
import scipy.special
import scipy.stats as st

from ppl.distributions.von_mises import concentration_velocity, velocity


def distribution_function(z, k):
    """F(z) - F(0) by adaptive quadrature; SciPy's own is a normal approximation for k above 50."""
    density = lambda t: np.exp(k * (np.cos(t) - 1)) / (2 * np.pi * scipy.special.i0e(k))
    return scipy.integrate.quad(density, 0, z, epsabs=0, epsrel=1e-13, limit=400)[0]


def central_difference(f, x, step):
    return (8 * (f(x + step) - f(x - step)) - (f(x + 2 * step) - f(x - 2 * step))) / (12 * step)


@pytest.mark.parametrize("k", [1e-2, 0.1, 1.0, 7.0, 45.0, 300.0, 1e3])
def test_velocity_is_minus_the_derivative_of_the_distribution_function_over_the_density(k, x64):
    for deviations in (0.05, 0.4, 0.9, 1.5, 2.5):
        z = min(deviations / np.sqrt(k), 0.9 * np.pi * deviations / 2.5)
        density = np.exp(k * (np.cos(z) - 1)) / (2 * np.pi * scipy.special.i0e(k))
        truth = -central_difference(lambda c, z=z: distribution_function(z, c), k, 1e-3 * k) / density
        np.testing.assert_allclose(concentration_velocity(jnp.array(z), jnp.array(k)), truth, rtol=1e-6)
        np.testing.assert_allclose(concentration_velocity(jnp.array(-z), jnp.array(k)), -truth, rtol=1e-6)


def test_velocity_agrees_with_scipy_where_scipy_is_exact(x64):
    k, z = 2.3, 1.1
    truth = -central_difference(lambda c: st.vonmises(c).cdf(z), k, 1e-3) / st.vonmises(k).pdf(z)
    np.testing.assert_allclose(concentration_velocity(jnp.array(z), jnp.array(k)), truth, rtol=1e-6)


@pytest.mark.parametrize("k", [1e-2, 1.0, 30.0, 1e3, 1e5])
def test_float32_agrees_with_float64(k):
    import jax

    z = np.linspace(-2.5, 2.5, 21) / np.sqrt(max(k, 1.0))
    with jax.enable_x64(True):
        truth = concentration_velocity(jnp.asarray(z), jnp.asarray(k))
        got = concentration_velocity(jnp.asarray(z, jnp.float32), jnp.asarray(k, jnp.float32))
    np.testing.assert_allclose(got, truth, rtol=1e-4, atol=1e-6 * np.abs(truth).max())


def test_the_ends_of_the_interval_stay(x64):
    for end in (-np.pi, np.nextafter(np.pi, 0)):
        for speed in velocity(jnp.array(end), jnp.array(0.8), jnp.array(2.3)):
            np.testing.assert_allclose(speed, 0.0, atol=1e-12)
