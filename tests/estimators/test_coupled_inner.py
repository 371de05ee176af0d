"""Coupled runs: all but the coupling is decided by the inner estimator."""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import Antithetic, Enumerate, MeasureValued, QuasiMonteCarlo, Reinforce, Reparam

BOTH = {"antithetic": Antithetic, "quasi_monte_carlo": QuasiMonteCarlo}
both = pytest.mark.parametrize("coupled", BOTH.values(), ids=BOTH)


@pytest.mark.parametrize("inner", [Reparam(), Enumerate(), MeasureValued(), Reinforce(0.5)], ids=repr)
@both
def test_everything_else_is_the_inner_estimator(coupled: Any, inner: Any) -> None:
    outer = coupled(inner)
    for name in ("pathwise", "joint", "biased", "together", "score_beyond_first", "excess_beyond_first"):
        assert getattr(outer, name) == getattr(inner, name)
    for measure in (ppl.normal(0.0, 1.0), ppl.flip(0.3), ppl.poisson(2.0), ppl.dirichlet(jnp.ones(3))):
        assert outer.admits(measure.numpyro) == inner.admits(measure.numpyro)  # type: ignore[attr-defined]
    leaves, tree = jax.tree.flatten(outer)
    assert jax.tree.unflatten(tree, leaves) == outer and len(leaves) == len(jax.tree.leaves(inner))


@both
def test_a_single_run_is_that_of_the_inner_estimator(coupled: Any) -> None:
    for inner in (Reparam(), Reinforce(0.5), MeasureValued()):
        program = lambda how: ppl.expectation(lambda t: (ppl.normal(t, 0.8).using(how) @ "x") ** 2)
        key = jax.random.key(9)
        one, other = (program(how).value_and_grad(key, 0.3) for how in (inner, coupled(inner)))
        assert one == other
        assert program(coupled(inner)).estimate(key, 0.3, num_samples=4) != program(inner).estimate(
            key, 0.3, num_samples=4
        )


@both
def test_a_choice_that_is_summed_over_still_is(coupled: Any) -> None:
    objective = ppl.expectation(lambda t: jnp.where(ppl.flip(t).using(coupled(Enumerate())) @ "x", 1.0, -t))
    for samples in (1, 4):
        value, slope = objective.value_and_grad(jax.random.key(0), 0.4, num_samples=samples)
        np.testing.assert_allclose((value, slope), (0.4 - 0.6 * 0.4, 1 - 1 + 2 * 0.4), rtol=1e-5)


@both
def test_jumps_are_refused_where_the_inner_estimator_moves(coupled: Any) -> None:
    def above(how: Any) -> Any:
        return ppl.expectation(lambda t: jnp.where(ppl.normal(t, 1.0).using(how) @ "x" > 0.0, 1.0, 0.0))

    with pytest.raises(ppl.DiscontinuousReparameterization, match="'x'"):
        above(coupled()).grad(jax.random.key(0), 0.3)
    assert np.isfinite(above(coupled(Reinforce())).grad(jax.random.key(0), 0.3, num_samples=4))
    with pytest.raises(ppl.errors.EstimatorNotAdmitted, match=f"{coupled.__name__} does not exist for"):
        ppl.poisson(2.0).using(coupled())
    with pytest.raises(ppl.UnsupportedProgram, match="end of its support"):
        end = lambda t: (ppl.uniform(0.0, t).using(coupled(Reinforce())) @ "x") ** 2
        ppl.expectation(end).grad(jax.random.key(0), 2.0)


def test_one_coupling_at_a_time() -> None:
    """To the inner estimator there is one run, so a coupling inside another does nothing."""
    program = lambda how: ppl.expectation(lambda t: (ppl.normal(t, 0.8).using(how) @ "x") ** 2)
    key = jax.random.key(9)
    for outer in (Antithetic, QuasiMonteCarlo):
        for inner in (Antithetic, QuasiMonteCarlo):
            nested, plain = (
                program(how).value_and_grad(key, 0.3, num_samples=4) for how in (outer(inner()), outer())
            )
            assert nested == plain


@both
def test_under_jit_in_a_program_with_using_and_an_odd_number_of_runs(coupled: Any) -> None:
    @ppl.gen
    def guide(t: Any) -> Any:
        x = ppl.normal(t, 1.0) @ "x"
        jax.vmap(lambda s: ppl.gamma(jnp.exp(x), s) @ "g")(jnp.array([1.0, 2.0]))
        ppl.normal(jnp.zeros(0), 1.0) @ "none"

    def program(t: Any) -> Any:
        trace = guide(t).using({"*": coupled()}).propose()
        return jnp.sum(trace.choices["g"]) + ppl.expect(lambda s: ppl.normal(s, 1.0).using(coupled()) @ "y")(
            t
        )

    objective = ppl.expectation(program)
    gradient = jax.jit(lambda key, t: objective.grad(key, t, num_samples=7))
    found = np.asarray(jax.vmap(gradient, in_axes=(0, None))(jax.random.split(jax.random.key(1), 2000), 0.2))
    wanted = 1.5 * np.exp(0.2 + 0.5) + 1.0  # E[sum of g] = 1.5 exp(t + 1/2)
    assert abs(found.mean() - wanted) < 5 * found.std() / np.sqrt(len(found))


@both
def test_baselines_of_other_runs_are_refused_and_others_are_kept(coupled: Any) -> None:
    with pytest.raises(ppl.UnsupportedProgram, match=r"LeaveOneOut.*needs them independent"):
        coupled(Reinforce(baseline="loo"))
    assert coupled(Reparam()).baseline is None
    outer = coupled(Reinforce(baseline="average"))
    assert outer.baseline == Reinforce(baseline="average").baseline
    objective = ppl.expectation(lambda t: 9.0 + (ppl.normal(t, 1.0).using(outer) @ "x"))
    key = jax.random.key(4)
    state = objective.initial_state(0.3)
    assert jax.tree.leaves(state), "the average of the inner estimator is kept"
    assert np.isfinite(objective.grad(key, 0.3, num_samples=2))
