"""The latent choices as one vector: against bijections by hand and numerical Jacobians."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import beta, gamma, norm

import ppl

KEY = jax.random.key(3)


@ppl.gen
def everything():
    scale = ppl.gamma(2.0, 1.0) @ "scale"
    weights = ppl.dirichlet(jnp.ones(3)) @ "weights"
    top = ppl.uniform(0.0, scale) @ "top"

    def chain(start):
        def step(x, _):
            x = ppl.gamma(2.0, x) @ "x"
            return x, None

        return jax.lax.scan(step, start, None, length=3)[0]

    ends = jax.vmap(chain)(jnp.stack([scale, top]))
    positive = lambda: ppl.half_normal(scale) @ "extra"
    extra = jax.lax.cond(top > 0.5, positive, lambda: 0.0)
    lanes = jax.vmap(lambda end: jax.lax.cond(end > 1.0, lambda: ppl.beta(2.0, end) @ "part", lambda: 0.0))(
        ends
    )
    ppl.normal(weights[0] + extra + lanes.sum(), 1.0) @ "y"


TARGET = everything().condition({"y": 0.5})
LATENT = ppl.unconstrained(TARGET)
VECTORS = jax.random.normal(KEY, (40, 13))
MOVED = jax.jit(jax.vmap(LATENT.moved))(VECTORS)


def test_the_layout_is_that_of_the_program():
    assert LATENT.size == 13 and LATENT.conditional == ("extra", "part")
    assert list(LATENT.slices) == ["scale", "weights", "top", "x", "extra", "part"]
    assert LATENT.slices["x"] == slice(4, 10)
    assert LATENT.names[:6] == ("scale", "weights[0]", "weights[1]", "top", "x[0,0]", "x[0,1]")
    choices, vector = MOVED.choices, VECTORS
    np.testing.assert_allclose(choices["scale"], jnp.exp(vector[:, 0]), rtol=1e-5)
    np.testing.assert_allclose(choices["top"], choices["scale"] * jax.nn.sigmoid(vector[:, 3]), rtol=1e-5)
    np.testing.assert_allclose(choices["x"], jnp.exp(vector[:, 4:10]).reshape(-1, 2, 3), rtol=1e-5)
    made = choices["top"] > 0.5
    assert 5 < made.sum() < 35
    np.testing.assert_allclose(choices["extra"], jnp.where(made, jnp.exp(vector[:, 10]), 0.0), rtol=1e-5)


def test_each_direction_undoes_the_other():
    back = jax.jit(jax.vmap(LATENT.moved_back))(MOVED.choices)
    assert 0.2 < MOVED.made[:, 10:].mean() < 0.8 and MOVED.made[:, :10].all()
    np.testing.assert_array_equal(back.made, MOVED.made)
    np.testing.assert_allclose(back.vector, jnp.where(MOVED.made, VECTORS, 0.0), atol=2e-4)
    np.testing.assert_allclose(back.log_det, MOVED.log_det, rtol=1e-4, atol=1e-3)


def test_the_determinant_is_that_of_the_jacobian_matrix():
    """Of what is made; of the simplex, whose last entry depends on the others, without it."""

    def flat(vector):
        choices = LATENT.constrain(vector)[0]
        parts = [choices["scale"], choices["weights"][:2], choices["top"], choices["x"], choices["extra"]]
        return jnp.concatenate([jnp.ravel(x) for x in (*parts, choices["part"])])

    jacobians = jax.jit(jax.vmap(jax.jacobian(flat)))(VECTORS)
    for jacobian, made, log_det in zip(jacobians, MOVED.made, MOVED.log_det, strict=True):
        kept = jacobian[np.ix_(made, made)]
        np.testing.assert_allclose(np.linalg.slogdet(kept)[1], log_det, rtol=1e-3, atol=1e-3)


def test_the_density_integrates_to_the_evidence():
    """By quadrature over the whole vector, a choice that one branch makes included."""

    @ppl.gen
    def model():
        share = ppl.beta(2.0, 3.0) @ "share"
        extra = jax.lax.cond(share > 0.4, lambda: ppl.gamma(2.0, 1.0) @ "extra", lambda: 0.0)
        ppl.normal(share + extra, 0.7) @ "y"

    latent = ppl.unconstrained(model().condition({"y": 1.0}))
    line = jnp.linspace(-9.0, 9.0, 601)
    grid = jnp.stack(jnp.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    total = jnp.exp(jax.jit(jax.vmap(latent.log_density))(grid)).sum() * (line[1] - line[0]) ** 2
    share, extra = jnp.linspace(0.0, 1.0, 4001), jnp.linspace(1e-6, 40.0, 8001)
    inner = jax.vmap(lambda s: jnp.trapezoid(gamma.pdf(extra, 2.0) * norm.pdf(1.0, s + extra, 0.7), extra))
    likelihood = jnp.where(share > 0.4, inner(share), norm.pdf(1.0, share, 0.7))
    truth = jnp.trapezoid(beta.pdf(share, 2.0, 3.0) * likelihood, share)
    np.testing.assert_allclose(total, truth, rtol=2e-3)


def test_derivatives_are_finite_where_a_choice_is_not_made():
    slopes = jax.jit(jax.vmap(jax.grad(LATENT.log_density)))(VECTORS)
    assert jnp.isfinite(slopes).all()
    np.testing.assert_allclose(slopes[~MOVED.made], -VECTORS[~MOVED.made], rtol=1e-5)

    def back(scale, choices):
        return LATENT.unconstrain(choices.without("scale") | {"scale": scale * choices["scale"]}).sum()

    assert jnp.isfinite(jax.jit(jax.vmap(jax.grad(back), (None, 0)))(1.0, MOVED.choices)).all()


def test_it_works_inside_programs_and_over_data():
    @ppl.gen
    def model(mean):
        jax.vmap(lambda _: ppl.normal(mean, 1.0) @ "x")(jnp.arange(2))
        ppl.normal(mean, 1.0) @ "y"

    def density(mean, y, vector):
        return ppl.unconstrained(model(mean).condition({"y": y})).log_density(vector)

    y, vector = jnp.array([0.1, 0.2]), jnp.ones(2)
    found = jax.jit(jax.vmap(density, (None, 0, None)))(0.5, y, vector)
    np.testing.assert_allclose(found, norm.logpdf(y, 0.5) + 2 * norm.logpdf(0.5), rtol=1e-5)
    objective = ppl.expectation(
        lambda mean: density(mean, 0.1, jnp.stack([ppl.normal(mean, 1.0) @ "z", 1.0]))
    )
    slope = objective.grad(KEY, 0.5)
    np.testing.assert_allclose(slope, 0.1 - 0.5 + 0.5, rtol=1e-5)  # z - mean does not move


def test_refusals():
    with pytest.raises(
        ppl.UnsupportedProgram, match=r"'n' .*is discrete.*condition on it, or move it by another"
    ):
        ppl.unconstrained(ppl.gen(lambda: ppl.poisson(3.0) @ "n")())
    hidden = ppl.gen(lambda: ppl.marginal(everything(), ["top"]) @ "m")
    with pytest.raises(ppl.UnsupportedProgram, match=r"'m/top'.*estimated.*condition on it"):
        ppl.unconstrained(hidden())
    with pytest.raises(TypeError, match="generative function"):
        ppl.unconstrained(ppl.normal(0.0, 1.0))
    with pytest.raises(
        ppl.errors.ChoiceShapeError, match=r"the vector of unconstrained\(everything.*\(13,\)"
    ):
        LATENT.constrain(jnp.zeros(12))
    with pytest.raises(ppl.errors.MissingChoice, match="'top'"):
        LATENT.unconstrain(jax.tree.map(lambda x: x[0], MOVED.choices).without("top"))

    @ppl.gen
    def two_supports(x):
        jax.lax.cond(
            x > 0, lambda: ppl.dirichlet(jnp.ones(2)) @ "p", lambda: ppl.normal(jnp.zeros(2), 1.0) @ "p"
        )

    with pytest.raises(ppl.UnsupportedProgram, match=r"'p'.*several dimensions in several branches"):
        ppl.unconstrained(two_supports(1.0))


def test_nothing_latent_and_loops_of_no_steps():
    @ppl.gen
    def model():
        jax.lax.scan(lambda c, _: (ppl.normal(c, 1.0) @ "x", None), 0.0, None, length=0)
        ppl.normal(0.0, 1.0) @ "y"

    latent = ppl.unconstrained(model().condition({"y": 0.5}))
    assert latent.size == 0 and latent.names == ()
    np.testing.assert_allclose(latent.log_density(jnp.zeros(0)), norm.logpdf(0.5), rtol=1e-6)
