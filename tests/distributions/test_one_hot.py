"""One-hot categories: the law of a categorical index, with a density that is linear on the simplex."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.stats as st

import ppl
from ppl import errors, families
from ppl.distributions.density import log_density, mass, support_values
from ppl.distributions.sampling import draw
from ppl.estimators import Enumerate, MeasureValued, Reinforce
from ppl.estimators.registry import default_estimator
from ppl.noise import Noise

from ..laws import oracles
from ..laws.cases import integrand
from ..laws.flows import FLOWS
from ..laws.laws import check_exactly

PROBS = np.array([0.2, 0.5, 0.3])


def law(t):
    return jnp.stack([t[..., 0], t[..., 1], 0.3 * t[..., 0] * t[..., 1]], axis=-1)


def make(form):
    return families.one_hot_categorical(**{form: np.log(PROBS) + 1.7 if form == "logits" else PROBS})


@pytest.mark.parametrize("form", ["probs", "logits"])
def test_a_draw_is_a_vertex_and_has_the_frequencies_of_the_probabilities(form):
    distribution = make(form).numpyro
    x = np.asarray(draw(distribution, Noise(jax.random.key(0)), (100_000,)))
    assert set(np.unique(x)) == {0.0, 1.0} and np.all(x.sum(axis=-1) == 1)
    assert st.chisquare(x.sum(axis=0), 100_000 * PROBS).pvalue > 6e-7
    with jax.numpy_rank_promotion("raise"):
        assert distribution.sample(jax.random.key(0), (5,)).shape == (5, 3)


@pytest.mark.parametrize("form", ["probs", "logits"])
def test_the_density_is_linear_on_the_simplex(form):
    for value in (np.eye(3)[1], np.array([0.2, 0.3, 0.5]), np.array([0.0, 0.4, 0.6])):
        np.testing.assert_allclose(log_density(make(form).numpyro, value), value @ np.log(PROBS), rtol=1e-6)
        slope = jax.grad(lambda v: log_density(make(form).numpyro, v))(jnp.asarray(value, jnp.float32))
        np.testing.assert_allclose(slope, np.log(PROBS), rtol=1e-6)
    np.testing.assert_allclose(mass(make(form).numpyro, np.eye(3)[2]), 0.3, rtol=1e-6)


@pytest.mark.parametrize("parameter", [{"probs": [0.25, 0.75, 0.0]}, {"logits": [0.0, np.log(3.0), -np.inf]}])
def test_a_category_that_is_ruled_out(parameter):
    distribution = families.one_hot_categorical(**parameter).numpyro
    np.testing.assert_allclose(
        log_density(distribution, np.array([0.5, 0.5, 0.0])), 0.5 * np.log(3 / 16), rtol=1e-6
    )
    assert log_density(distribution, np.array([0.5, 0.4, 0.1])) == -jnp.inf
    leaf = jax.tree.leaves(distribution)[0]
    (name,) = distribution.arg_constraints
    score = lambda p: log_density(families.one_hot_categorical(**{name: p}).numpyro, np.eye(3)[0])
    assert jnp.all(jnp.isfinite(jax.grad(score)(jnp.asarray(leaf))))


def test_shapes_dtypes_and_defaults():
    batch = families.one_hot_categorical(logits=jnp.zeros((2, 4), jnp.bfloat16))
    assert batch.simulate(jax.random.key(0)).retval.dtype == jnp.bfloat16
    assert batch.numpyro.batch_shape == (2,) and batch.numpyro.event_shape == (4,)
    assert isinstance(default_estimator(batch.numpyro), Reinforce)
    assert isinstance(default_estimator(make("probs").numpyro), Enumerate)
    np.testing.assert_array_equal(support_values(make("logits").numpyro), np.eye(3))
    np.testing.assert_array_equal(batch.numpyro.enumerate_support()[:, 0], np.eye(4))


def test_wrong_parameters_are_refused():
    with pytest.raises(errors.ParameterError, match=r"exactly one of probs= or logits="):
        families.one_hot_categorical()
    with pytest.raises(errors.ParameterError, match=r"must sum to 1"):
        families.one_hot_categorical([0.5, 0.6])
    with pytest.raises(errors.ParameterError, match=r"at least one-dimensional"):
        families.one_hot_categorical(0.5)
    with pytest.raises(errors.ParameterError, match=r"logits must be finite or -inf"):
        families.one_hot_categorical(logits=[0.0, np.inf])


ESTIMATORS = {
    "enumerate": Enumerate(),
    "measure_valued": MeasureValued(),
    "reinforce": Reinforce(baseline=0.4),
}
FLOW = ["straight", "array", "vmap_interacting", "cond_under_vmap", "scan", "inner_expect"]
FORMS = [*(("logits", flow) for flow in FLOW), ("probs", "straight"), ("probs", "array")]


@pytest.mark.parametrize(("form", "flow"), FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_gradients_are_exact(form, estimator, flow):
    def choose(t, address):
        parameter = law(t) if form == "logits" else jax.nn.softmax(law(t))
        measure = families.one_hot_categorical(**{form: parameter}).using(ESTIMATORS[estimator])
        x = measure.propose().retval if address is None else measure @ address
        return x @ jnp.arange(3, dtype=x.dtype)

    f, truth = integrand(1.5), oracles.categorical(law, 3)
    check_exactly(FLOWS[flow].program(choose, f), FLOWS[flow].truth(truth, f))


def test_exact_sums_over_the_vertices():
    objective = ppl.expectation(lambda t: (families.one_hot_categorical(logits=law(t)) @ "x" @ PROBS) ** 2)
    t = jnp.array([0.3, -0.2])
    np.testing.assert_allclose(objective.exact(t), jax.nn.softmax(law(t)) @ PROBS**2, rtol=1e-6)
