"""The claims of `make demo` at reduced size, and the truth that its tables print, by other means."""

import importlib.util
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.stats import multivariate_normal, norm

EXAMPLES = Path(__file__).parents[2] / "examples"
# A normal deviate passes five standard errors with probability 6e-7.
ERRORS = 5.0


@pytest.fixture(scope="module")
def examples() -> Iterator[SimpleNamespace]:
    """The scripts as modules; each finds its neighbors as it does when it is run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(EXAMPLES)
        names = ("cone_exact", "cone_plot", "cone", "vae_plot", "vae")
        loaded = {name: _load(name, patch) for name in names}
        yield SimpleNamespace(**loaded)


def _load(name: str, patch: pytest.MonkeyPatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location(name, EXAMPLES / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    patch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module


# Parameters at which the bounds are compared: near the optima, where the estimates have small variance.
BLOB = {"mx": 2.2, "my": 0.1, "lx": -3.0, "ly": -1.0}
RING = {"log_sd": -3.2}


def exact_bounds(exact: ModuleType) -> list[float]:
    blob, ring = list(BLOB.values()), list(RING.values())
    return [
        exact.elbo(exact.naive_log_weights(blob)),
        exact.iwelbo(exact.naive_log_weights(blob), 5),
        exact.elbo(exact.ring_log_weights(ring, von_mises=False)),
        exact.elbo(exact.ring_log_weights(ring, von_mises=True)),
    ]


def test_the_evidence_of_the_cone_is_that_of_one_radial_integral(examples):
    # s = x² + y² is exponential with mean 200.
    density = lambda s: np.exp(-s / 200) / 200 * norm.pdf(5, s, 0.1 + s / 100)
    value, _ = quad(density, 0, 15, points=[5], epsabs=0, epsrel=1e-10)
    assert examples.cone_exact.log_evidence() == pytest.approx(np.log(value), abs=1e-8)


@pytest.mark.parametrize("particles", [1, 2, 5])
def test_the_quadrature_of_the_importance_weighted_bound(examples, particles):
    exact = examples.cone_exact
    mx, my, lx, ly = phi = list(BLOB.values())
    rng = np.random.default_rng(0)
    x = rng.normal(mx, np.exp(lx), (200_000, particles))
    y = rng.normal(my, np.exp(ly), (200_000, particles))
    log_weights = exact.log_joint(x, y) - norm.logpdf(x, mx, np.exp(lx)) - norm.logpdf(y, my, np.exp(ly))
    draws = np.logaddexp.reduce(log_weights, axis=1) - np.log(particles)
    bound = exact.iwelbo(exact.naive_log_weights(phi), particles)
    assert abs(draws.mean() - bound) < ERRORS * draws.std() / len(draws) ** 0.5
    # The error of the grid itself is far below what these draws can see.
    if particles == 1:
        assert bound == pytest.approx(exact.elbo(exact.naive_log_weights(phi)), abs=1e-6)


@pytest.mark.parametrize("case", range(4))
def test_every_objective_has_the_expected_value_of_its_quadrature(examples, case, key):
    objective = examples.cone.CASES[case].objective
    params = jax.tree.map(jnp.float32, BLOB if case < 2 else RING)
    values = jax.vmap(lambda k: objective.estimate(k, params))(jax.random.split(key, 20_000))
    error = float(values.std()) / len(values) ** 0.5
    assert abs(float(values.mean()) - exact_bounds(examples.cone_exact)[case]) < ERRORS * error


@pytest.fixture(scope="module")
def cone_run(examples, tmp_path_factory):
    output = tmp_path_factory.mktemp("cone")
    return examples.cone.main(draws=4_000, output=output), output


@pytest.mark.slow
def test_training_reaches_the_optimum_of_each_objective(cone_run):
    fits, _ = cone_run
    for fit in fits:
        # What Adam leaves is less than 0.01 nats; above the optimum there is only noise.
        assert fit.optimum - 0.01 - ERRORS * fit.error < fit.mean < fit.optimum + ERRORS * fit.error, (
            fit.case.name
        )


@pytest.mark.slow
def test_the_bounds_lie_in_the_order_that_the_example_tells(cone_run):
    elbo, iwelbo5, uniform, von_mises = (fit.mean for fit in cone_run[0])
    assert uniform < elbo - 1.5 and elbo + 0.4 < iwelbo5 and iwelbo5 + 2.0 < von_mises


def assert_is_picture(path: Path) -> None:
    import matplotlib.pyplot as plt

    pixels = plt.imread(path)[..., :3]
    assert min(pixels.shape[:2]) > 600 and pixels.std() > 0.05


@pytest.mark.slow
def test_the_picture_of_the_cone_is_drawn(cone_run):
    assert_is_picture(cone_run[1] / "cone.png")


def test_the_digits_are_the_counts_plus_noise_and_do_not_overlap(examples):
    from sklearn.datasets import load_digits

    data, truth = examples.vae.digits(), load_digits()
    assert [len(part) for part in (data.train, data.valid, data.test, data.labels)] == [1200, 300, 297, 297]
    parts = np.concatenate([data.train, np.floor(data.valid), np.floor(data.test)])
    assert np.array_equal(parts[np.lexsort(parts.T)], truth.data[np.lexsort(truth.data.T)])
    noise = np.concatenate([data.valid, data.test]) % 1
    assert abs(noise.mean() - 0.5) < ERRORS * (1 / 12 / noise.size) ** 0.5


def test_the_held_out_score_is_a_log_density_of_the_pixels(examples, key):
    """With weights of zero no pixel depends on the latents, and the log density is a sum of 64 normals."""
    vae, data = examples.vae, examples.vae.digits()
    sizes = {"encoder": (64, 8, 32), "decoder": (16, 8, 128)}
    params = jax.tree.map(jnp.zeros_like, {name: vae.layers(key, *size) for name, size in sizes.items()})
    images = data.test[:8]
    truth = norm.logpdf(images, 17 / 2, 0.25 + 17 * np.log1p(np.exp(-2.0))).sum(1)
    # The log weight of a latent has the standard deviation 0.15: 5 errors at 2,000 particles are 0.017.
    assert np.abs(vae.held_out(params, images, key, 2_000) - truth).max() < 0.02


def test_the_baseline_is_the_log_density_of_a_gaussian_on_the_same_images(examples):
    data = examples.vae.digits()
    pca = examples.vae.fit_pca(data, copies=1)
    truth = multivariate_normal(pca.mean_, pca.get_covariance()).logpdf(data.test)
    np.testing.assert_allclose(pca.score_samples(data.test), truth, rtol=1e-5)


@pytest.fixture(scope="module")
def vae_run(examples, tmp_path_factory):
    output = tmp_path_factory.mktemp("vae")
    return examples.vae.main(steps=500, particles=50, output=output), output


@pytest.mark.slow
def test_the_autoencoder_beats_the_gaussian_on_held_out_digits(vae_run):
    scores, _ = vae_run
    gain = scores.vae - scores.pca
    assert gain.mean() > ERRORS * gain.std() / len(gain) ** 0.5
    assert scores.vae.mean() > scores.vae_elbo.mean()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["vae_images.png", "vae_latents.png"])
def test_the_pictures_of_the_autoencoder_are_drawn(vae_run, name):
    assert_is_picture(vae_run[1] / name)
