"""The objective in Gram matrices: its stationary points, its limits, and the networks that tend to it."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats
from scipy.optimize import minimize

import ppl
from models.common.command import ran
from models.common.paper import Settings
from models.processes.deep_kernel_machines import network, sparse
from models.processes.deep_kernel_machines import objective as machine

P = 6


@pytest.fixture
def points():
    random = np.random.default_rng(1)
    return jnp.asarray(random.standard_normal((P, 9))), jnp.asarray(random.standard_normal((P, 3)))


def wishart(seed: int) -> np.ndarray:
    half = np.random.default_rng(seed).standard_normal((P, 3 * P))
    return half @ half.T / (3 * P)


def geometric(first: np.ndarray, last: np.ndarray, share: float) -> np.ndarray:
    """G_0 (G_0^-1 G_(L+1))^share."""
    values, vectors = np.linalg.eig(np.linalg.solve(first, last))
    return (first @ vectors @ np.diag(values**share) @ np.linalg.inv(vectors)).real


def test_linear_layers_between_fixed_grams_are_their_geometric_means(x64):
    first, last, layers = wishart(2), wishart(3), 3
    ends = [jnp.linalg.cholesky(jnp.asarray(end)) for end in (first, last)]

    def divergence(flat):
        roots = [machine.root_of(v) for v in flat.reshape(layers, P, P)]
        pairs = zip([*roots, ends[1]], [ends[0], *roots], strict=True)
        return sum(machine.gaussian_kl(root, below) for root, below in pairs)

    start = jnp.stack([machine.free(ends[0])] * layers).ravel()
    function = jax.jit(jax.value_and_grad(divergence))
    options = {"maxiter": 5000, "maxfun": 5000, "ftol": 1e-16, "gtol": 1e-10}
    found = minimize(
        lambda x: tuple(map(np.asarray, function(x))), start, jac=True, method="L-BFGS-B", options=options
    )
    for layer, v in enumerate(found.x.reshape(layers, P, P), 1):
        root = np.asarray(machine.root_of(jnp.asarray(v)))
        np.testing.assert_allclose(root @ root.T, geometric(first, last, layer / (layers + 1)), atol=1e-6)


def test_the_divergence_is_that_of_gaussians_and_least_at_the_kernel(x64):
    g, k = wishart(4), wishart(5)
    roots = [jnp.linalg.cholesky(jnp.asarray(m)) for m in (g, k)]
    inner = np.linalg.solve(k, g)
    truth = 0.5 * (np.trace(inner) - np.linalg.slogdet(inner)[1] - P)
    assert machine.gaussian_kl(*roots) == pytest.approx(truth, abs=1e-10)
    assert machine.gaussian_kl(roots[1], roots[1]) == pytest.approx(0.0, abs=1e-12)
    assert truth > 0


@pytest.mark.parametrize("kernel", [machine.relu, machine.squared_exponential, machine.linear])
def test_without_learning_it_is_the_evidence_of_the_infinite_network(x64, points, kernel):
    x, y = points
    first = machine.grams_only(x)
    roots = machine.nngp_roots(first, kernel, 2)
    found = machine.value(roots, first, y, kernel, 1e6, 0.1)
    covariance = np.asarray(machine.jittered(kernel(kernel(kernel(first))).inducing)) + 0.1 * np.eye(P)
    truth = np.mean([stats.multivariate_normal(cov=covariance).logpdf(column) for column in np.asarray(y).T])
    # The jitter of each layer is inside its kernel and moves the next by as much.
    assert found == pytest.approx(truth, abs=2e-2)
    exact = machine.channel_evidence(jnp.asarray(covariance), y)
    assert exact == pytest.approx(truth, abs=1e-8)


def test_grams_of_the_data_themselves_are_those_of_the_inducing_points(x64, points):
    x, _ = points
    roots = machine.nngp_roots(machine.grams_only(x), machine.relu, 1)
    lifted = machine.through(machine.relu(machine.of_inputs(x, x)), 1.3 * roots[0])
    # Up to jitter: 1e-4 of the diagonal.
    np.testing.assert_allclose(lifted.cross, lifted.inducing, atol=5e-3)
    np.testing.assert_allclose(lifted.variance, jnp.diag(lifted.inducing), atol=5e-3)


def test_the_bound_of_networks_tends_to_the_objective(x64, points):
    x, y = points
    first = machine.grams_only(x)
    roots = [1.2 * root for root in machine.nngp_roots(first, machine.relu, 1)]
    limit = machine.value(roots, first, y, machine.relu, 1.0, 0.1)
    params = {"layers": [machine.free(root) for root in roots]}
    data = {"x": x, "y": y, "noise": jnp.full(P, 0.1)}
    gaps = []
    for width in (20, 2000):
        elbo = network.bound(machine.relu, width, 1)
        values = [elbo.estimate(jax.random.key(seed), params, data) for seed in range(8)]
        gaps.append(abs(np.mean(values) - limit))
    assert gaps[1] < 0.02 and gaps[1] < gaps[0]


def test_the_sparse_divergence_is_that_of_gaussians(x64):
    random = np.random.default_rng(0)
    root, mean = (
        jnp.asarray(0.4 * random.standard_normal((4, 4))),
        jnp.asarray(random.standard_normal((10, 4))),
    )
    factor = machine.root_of(root)
    q = ppl.multivariate_normal(mean, scale_tril=factor)
    p = ppl.normal(jnp.zeros((10, 4)), 1.0)
    found = sparse.kl_of_outputs({"root": root, "mean": mean})
    draws = mean + jax.random.normal(jax.random.key(0), (20_000, 10, 4)) @ factor.T
    logs = jax.jit(jax.vmap(lambda v: q.log_density(v) - p.log_density(v)))(draws)
    assert abs(logs.mean() - found) < 5 * logs.std() / len(draws) ** 0.5


def test_a_small_run_from_the_command_line(tmp_path, capsys):
    assert ran("deep-kernel-machines", Settings(seeds=(0,), quick=True, progress=False), tmp_path) == 0
    assert "learned, nu = 1" in capsys.readouterr().out
    assert (tmp_path / "deep-kernel-machines.png").stat().st_size > 10_000
