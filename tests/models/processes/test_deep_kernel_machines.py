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


def relu_kernel(gram: np.ndarray) -> np.ndarray:
    """Cho and Saul's, written out."""
    scale = np.sqrt(np.outer(np.diag(gram), np.diag(gram)))
    angle = np.arccos(np.clip(gram / scale, -1.0, 1.0))
    return scale * (np.sin(angle) + (np.pi - angle) * np.cos(angle)) / np.pi


def infinite_network(x: np.ndarray, inducing: int, layers: int = 2, kernel=relu_kernel) -> np.ndarray:
    """The NNGP's last kernel among all rows; at each layer the inducing ones, the first, get the jitter."""
    gram = x @ x.T / x.shape[1]
    for _ in range(layers + 1):
        gram = kernel(gram)
        own = gram[:inducing, :inducing]
        jitter = machine.JITTER * (np.mean(np.diag(own)) + 1.0)
        gram = gram + np.diag(np.where(np.arange(len(gram)) < inducing, jitter, 0.0))
    return gram


def evidence(covariance: np.ndarray, y: np.ndarray) -> float:
    return float(np.mean([stats.multivariate_normal(cov=covariance).logpdf(column) for column in y.T]))


def test_linear_layers_between_fixed_grams_are_their_geometric_means(x64, monkeypatch):
    """By `ascend`, without jitter; L-BFGS from the first Gram, then Newton's steps to rounding error."""
    monkeypatch.setattr(machine, "JITTER", 0.0)
    first, last, layers = wishart(2), wishart(3), 3
    below = machine.Gram(jnp.asarray(first), jnp.zeros((0, P)), jnp.zeros(0))
    top, rows = jnp.linalg.cholesky(jnp.asarray(last)), np.tril_indices(P)

    def roots(flat):
        return [machine.root_of(jnp.zeros((P, P)).at[rows].set(v)) for v in flat.reshape(layers, -1)]

    divergence = jax.jit(lambda flat: machine.ascend(below, [*roots(flat), top], machine.linear)[1].sum())
    slope, curvature = jax.jit(jax.grad(divergence)), jax.jit(jax.hessian(divergence))
    start = np.tile(np.asarray(machine.free(jnp.linalg.cholesky(below.inducing)))[rows], layers)
    found = minimize(
        lambda v: float(divergence(v)), start, jac=lambda v: np.asarray(slope(v)), method="L-BFGS-B"
    ).x
    for _ in range(4):
        found = found - np.linalg.solve(curvature(found), slope(found))
    for layer, root in enumerate(roots(jnp.asarray(found)), 1):
        np.testing.assert_allclose(root @ root.T, geometric(first, last, layer / (layers + 1)), atol=1e-8)


def test_the_divergence_is_that_of_gaussians_and_least_at_the_kernel(x64):
    g, k = wishart(4), wishart(5)
    roots = [jnp.linalg.cholesky(jnp.asarray(m)) for m in (g, k)]
    inner = np.linalg.solve(k, g)
    truth = 0.5 * (np.trace(inner) - np.linalg.slogdet(inner)[1] - P)
    assert machine.gaussian_kl(*roots) == pytest.approx(truth, abs=1e-10)
    assert machine.gaussian_kl(roots[1], roots[1]) == pytest.approx(0.0, abs=1e-12)
    assert truth > 0


def squared_exponential_kernel(gram: np.ndarray) -> np.ndarray:
    return np.exp(gram - (np.diag(gram)[:, None] + np.diag(gram)) / 2)


KERNELS = [
    (machine.relu, relu_kernel),
    (machine.squared_exponential, squared_exponential_kernel),
    (machine.linear, lambda gram: gram),
]


@pytest.mark.parametrize(("kernel", "exact"), KERNELS)
def test_without_learning_it_is_the_evidence_of_the_infinite_network(x64, points, kernel, exact):
    x, y = map(np.asarray, points)
    first = machine.grams_only(points[0])
    roots = machine.nngp_roots(first, kernel, 2)
    found = machine.value(roots, first, points[1], kernel, 1e6, machine.Likelihood(0.1, 1.3))
    covariance = 1.3 * infinite_network(x, P, kernel=exact) + 0.1 * np.eye(P)
    assert found == pytest.approx(evidence(covariance, y), abs=1e-8)


def test_the_objective_is_that_of_the_formula_at_any_grams(x64, points):
    """Of two ReLU layers, in NumPy, with the jitter inside the kernel alone and the KL of G from K."""
    x, y = map(np.asarray, points)
    grams, nu = [wishart(6), wishart(7)], 0.7
    below, total = x @ x.T / x.shape[1], 0.0
    jittered = lambda k: k + machine.JITTER * (np.mean(np.diag(k)) + 1.0) * np.eye(P)
    for gram in grams:
        inner = np.linalg.solve(jittered(relu_kernel(below)), gram)
        total -= nu * 0.5 * (np.trace(inner) - np.linalg.slogdet(inner)[1] - P)
        below = gram
    total += evidence(jittered(relu_kernel(below)) + 0.1 * np.eye(P), y)
    roots = [jnp.linalg.cholesky(jnp.asarray(gram)) for gram in grams]
    params = {"layers": [machine.free(root) for root in roots]}
    data = {"x": points[0], "y": points[1]}
    found = machine.learned(machine.relu, 2, nu, 0.1).estimate(jax.random.key(0), params, data)
    assert found == pytest.approx(total, abs=1e-8)


@pytest.fixture
def new_points():
    return np.random.default_rng(8).standard_normal((5, 9))


def test_grams_of_new_points_are_those_of_the_conditional(x64, points, new_points):
    """f_t = A f_i + r with A = K_ti K_ii^-1, where f_i ~ N(0, G) and r is as in the prior."""
    x = np.concatenate([points[0], new_points])
    kernel, gram = relu_kernel(x @ x.T / 9), wishart(9)
    own = kernel[:P, :P] + machine.JITTER * (np.mean(np.diag(kernel)[:P]) + 1.0) * np.eye(P)
    weights = np.linalg.solve(own, kernel[:P, P:]).T
    joint = kernel[P:, P:] - weights @ own @ weights.T + weights @ gram @ weights.T
    prior = machine.relu(machine.of_inputs(points[0], jnp.asarray(new_points)))
    found = machine.through(prior, jnp.linalg.cholesky(jnp.asarray(gram)))
    np.testing.assert_allclose(found.cross, weights @ gram, atol=1e-10)
    np.testing.assert_allclose(found.variance, np.diag(joint), atol=1e-10)


def test_without_learning_predictions_are_those_of_the_gaussian_process(x64, points, new_points):
    x, y = map(np.asarray, points)
    roots = machine.nngp_roots(machine.grams_only(points[0]), machine.relu, 2)
    kernel = 1.3 * infinite_network(np.concatenate([x, new_points]), P)
    weights = np.linalg.solve(kernel[:P, :P] + 0.1 * np.eye(P), kernel[:P, P:]).T
    likelihood = machine.Likelihood(0.1, 1.3)
    mean, variance = machine.predictions(
        roots, points[0], points[1], jnp.asarray(new_points), machine.relu, likelihood
    )
    np.testing.assert_allclose(mean, weights @ y, atol=1e-8)
    explained = np.sum(weights * kernel[P:, :P], axis=1)
    np.testing.assert_allclose(variance, np.diag(kernel)[P:] - explained + 0.1, atol=1e-8)


def test_the_sparse_bound_is_the_collapsed_one_at_its_best_guide(x64, points, new_points):
    """Of Gaussian outputs at nu = infinity, with inducing points that are no data.

    At the best q(u) it is log N(y; 0, Q + noise I) - tr(K - Q) / (2 noise), Q = K_ti K_ii^-1 K_it (Titsias,
    "Variational learning of inducing variables in sparse Gaussian processes", 2009).
    """
    noise, scale, channels = 0.1, 1.3, 3
    y = np.random.default_rng(9).standard_normal((len(new_points), channels))
    kernel = scale**2 * infinite_network(np.concatenate([points[0], new_points]), P)
    projected = kernel[P:, :P] @ np.linalg.solve(kernel[:P, :P], kernel[:P, P:])
    exact = evidence(projected + noise * np.eye(len(y)), y)
    exact -= np.trace(kernel[P:, P:] - projected) / (2 * noise)
    params = {"points": points[0], "scale": jnp.log(scale), "total": jnp.array(float(len(y)))}
    weights, residual, divergences = sparse.layered(params, jnp.asarray(new_points))
    covariance = np.linalg.inv(np.eye(P) + scale**2 * weights.T @ weights / noise)
    params["mean"] = jnp.asarray(scale * covariance @ weights.T @ y / noise).T
    params["root"] = machine.free(jnp.linalg.cholesky(covariance))
    mean, deviation = sparse.marginals(params, weights, residual)
    expected = stats.norm(mean, noise**0.5).logpdf(y) - deviation**2 / (2 * noise)
    found = sparse.by_datum(params, jnp.sum(expected) / len(y), divergences)
    assert found == pytest.approx(exact / len(y), abs=1e-8)
    assert divergences.sum() == pytest.approx(0.0, abs=1e-10)


def test_the_bound_of_networks_tends_to_the_objective(x64, points):
    x, y = points
    first = machine.grams_only(x)
    roots = [1.2 * root for root in machine.nngp_roots(first, machine.relu, 1)]
    limit = machine.value(roots, first, y, machine.relu, 1.0, machine.Likelihood(0.1))
    params = {"layers": [machine.free(root) for root in roots]}
    gaps = []
    for width in (20, 2000):
        elbo = network.bound(machine.relu, width, 1, 0.1)
        values = [elbo.estimate(jax.random.key(seed), params, {"x": x, "y": y}) for seed in range(8)]
        gaps.append(abs(np.mean(values) - limit))
    assert gaps[1] < 0.02 and gaps[1] < gaps[0]


def test_the_posterior_by_markov_chain_is_that_of_quadrature(x64):
    """One point and one layer: g = F F' / N is k chi-squared_N / N, and its posterior a quadrature.

    The mean of that is what the Markov chain has to find, and it is not the prior's, k.
    """
    k, y, noise, width = 1.0, 1.6, 0.1, 64
    grid = np.linspace(0.2, 8.0, 20_000)
    jitter = lambda g: g + machine.JITTER * (g + 1.0)
    prior = stats.gamma(width / 2, scale=2 * jitter(k) / width).logpdf(grid)
    logs = prior + width * stats.norm(0.0, np.sqrt(jitter(grid) + noise)).logpdf(y)
    weights = np.exp(logs - logs.max())
    exact = np.sum(weights * grid) / np.sum(weights)
    deviation = np.sqrt(np.sum(weights * (grid - exact) ** 2) / np.sum(weights))
    [drawn] = network.posterior_grams(
        jnp.full((1, 1), k), jnp.full((1, 1), y), [jnp.ones((1, 1))], machine.relu, width, noise,
        jax.random.key(0), draws=1000, warmup=200,
    )  # fmt: skip
    # Five standard errors of 300 independent draws, fewer than the chain is worth.
    assert abs(drawn.mean() - exact) < 5 * deviation / 300**0.5
    assert abs(k - exact) > 20 * deviation / 300**0.5


def test_outputs_are_replicated_whole():
    with pytest.raises(ValueError, match="32 is no multiple of the 10 outputs"):
        network.posterior_grams(
            jnp.eye(2), jnp.ones((2, 10)), [jnp.eye(2)], machine.relu, 32, 0.1, jax.random.key(0), 1, 1
        )


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
