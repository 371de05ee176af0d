"""Coupled runs are unbiased: means are integrated exactly over the noise, the shared one included."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import scipy.special

import ppl
from ppl.estimators import Antithetic, Enumerate, MeasureValued, QuasiMonteCarlo, Reinforce, Reparam
from ppl.testing.integrate import integrate
from ppl.testing.rules import Rule, trapezoid

from ..laws import oracles
from ..laws.cases import THETA
from ..laws.laws import KEY, estimates, truth_of
from ..laws.oracles import coins

sigmoid = jax.nn.sigmoid
BOTH = {"antithetic": Antithetic, "quasi_monte_carlo": QuasiMonteCarlo}
both = pytest.mark.parametrize("coupled", BOTH.values(), ids=BOTH)


def check(program: Any, truth: Any, samples: int, rules: Any, *, second: bool = True, draws: int = 1) -> None:
    """E[mean of the runs] and its derivatives are the truth's, to eight digits."""
    right = truth_of(truth)
    with jax.enable_x64(True):
        estimate = estimates(ppl.expectation(program), second, num_samples=samples)
        found = integrate(estimate, jax.random.key(KEY), jnp.asarray(THETA), rules=rules)
    assert found.draws >= draws
    for name, mean in found.mean.items():
        wanted = getattr(right, name.split()[-1], right.value)
        np.testing.assert_allclose(mean, wanted, rtol=1e-8, atol=1e-8, err_msg=name)


NORMAL_LAW = oracles.normal(lambda t: t[0], lambda t: jnp.exp(0.3 * t[1]), 0.0)


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("inner", [Reparam(), Reinforce(baseline=0.3)], ids=["reparam", "reinforce"])
def test_antithetic_normal(inner: Any, samples: int) -> None:
    def program(t: Any) -> Any:
        x = ppl.normal(t[0], jnp.exp(0.3 * t[1])).using(Antithetic(inner)) @ "x"
        return jnp.exp(0.4 * x) * (1 + 0.3 * t[0] * t[1]) + 0.1 * x**3

    def truth(t: Any) -> Any:
        return NORMAL_LAW.mean(lambda x: jnp.exp(0.4 * x) * (1 + 0.3 * t[0] * t[1]) + 0.1 * x**3, t)

    check(program, truth, samples, {"normal": trapezoid(0.5)}, draws=(samples + 1) // 2)


@pytest.mark.parametrize("samples", [1, 2, 3])
@both
def test_uniform(coupled: Any, samples: int) -> None:
    """A polynomial of a reparameterized uniform draw, for Gauss's rule."""
    nodes, weights = np.polynomial.legendre.leggauss(4)
    gauss = {"uniform": Rule((nodes + 1) / 2, weights / 2)}

    def program(t: Any) -> Any:
        x = ppl.uniform(t[0] - 1.0, t[1] + 1.5).using(coupled()) @ "x"
        return x**3 * t[1] + x**2 - x

    def truth(t: Any) -> Any:
        low, high = t[0] - 1.0, t[1] + 1.5
        moment = lambda n: (high ** (n + 1) - low ** (n + 1)) / (n + 1) / (high - low)
        return moment(3) * t[1] + moment(2) - moment(1)

    check(program, truth, samples, gauss)


def steps(*edges: float) -> Rule:
    """Exact for functions of a uniform number that are constant between the edges."""
    ends = np.unique([0.0, *edges, 1.0])
    return Rule((ends[1:] + ends[:-1]) / 2, np.diff(ends))


def cuts(coupled: Any, samples: int, *probabilities: float) -> dict[str, Rule]:
    """Where the uniform numbers behind a quantile with these jumps are cut: mirrored, or within a stratum."""
    strata = 2 ** (samples - 1).bit_length()
    pieces = lambda p: (p, 1 - p) if coupled is Antithetic or samples == 1 else ((strata * p) % 1,)
    return {"uniform": steps(*(edge for p in probabilities for edge in pieces(p)))}


PROBS = [float(scipy.special.expit(THETA[0] + s * THETA[1])) for s in (0.0, 1.0, -0.5)]
INNER = {"reinforce": Reinforce(baseline=0.4), "measure_valued": MeasureValued(), "enumerate": Enumerate()}


@pytest.mark.parametrize("samples", [1, 2, 3])
@pytest.mark.parametrize("inner", INNER.values(), ids=INNER)
@both
def test_coin(coupled: Any, inner: Any, samples: int) -> None:
    def program(t: Any) -> Any:
        (x,) = ppl.flip(sigmoid(t[:1])).using(coupled(inner)) @ "x"
        return jnp.where(x, 2.0 + t[1], t[0])

    def truth(t: Any) -> Any:
        return sigmoid(t[0]) * (2.0 + t[1]) + (1 - sigmoid(t[0])) * t[0]

    check(program, truth, samples, cuts(coupled, samples, PROBS[0]))


@both
def test_categorical(coupled: Any) -> None:
    logits = lambda t: jnp.stack([t[0], t[1], 0.3])

    def program(t: Any) -> Any:
        x = ppl.categorical(logits=logits(t)).using(coupled(Reinforce())) @ "x"
        return jnp.array([1.0, -0.5, 2.5])[x] * (1 + t[0])

    def truth(t: Any) -> Any:
        return jnp.sum(jax.nn.softmax(logits(t)) * jnp.array([1.0, -0.5, 2.5])) * (1 + t[0])

    below = np.cumsum(scipy.special.softmax([*THETA, 0.3]))[:2]
    for samples in (2, 3) if coupled is Antithetic else (2,):
        check(program, truth, samples, cuts(coupled, samples, *below))


FLOWS: dict[str, Callable[[Any, Any], Any]] = {
    "vmap": lambda draw, t: jax.vmap(lambda s: draw(t, s))(jnp.array([1.0, -0.5])),
    "scan": lambda draw, t: jax.lax.scan(lambda c, s: (c, draw(t, s)), 0, jnp.array([1.0, -0.5]))[1],
    "map": lambda draw, t: jax.lax.map(lambda s: draw(t, s), jnp.array([1.0, -0.5])),
    "cond": lambda draw, t: jnp.stack(
        [draw(t, 1.0), jax.lax.cond(t[0] > -9.0, lambda: draw(t, -0.5), lambda: 0.0)]
    ),
    "array": lambda draw, t: draw(t, jnp.array([1.0, -0.5])),
    "two": lambda draw, t: jnp.stack([draw(t, 1.0), draw(t, -0.5)]),
}


@pytest.mark.parametrize("flow", FLOWS)
@both
def test_instances_of_one_run_are_independent(coupled: Any, flow: str) -> None:
    """Lanes, steps, entries and choices meet in a product, whose mean is that of independent draws."""

    def program(t: Any) -> Any:
        draw = lambda t, s: (
            ppl.flip(sigmoid(t[0] + s * t[1])).using(coupled(Reinforce())).propose().retval * 1.0
        )
        x, y = FLOWS[flow](draw, t)
        return (x + 0.5) * (2.0 * y - t[1]) + x

    def truth(t: Any) -> Any:
        p = [sigmoid(t[0] + s * t[1]) for s in (1.0, -0.5)]
        return coins(lambda i, _: p[i], lambda b: (b[0] + 0.5) * (2.0 * b[1] - t[1]) + b[0], 2)

    check(program, truth, 2, cuts(coupled, 2, *PROBS[1:]), draws=2)


@both
def test_what_depends_on_earlier_draws_and_runs_again(coupled: Any) -> None:
    """A coupled coin decides the law of the next, whose phantoms run the rest again from the same noise."""

    def program(t: Any) -> Any:
        x = ppl.flip(sigmoid(t[:1])).using(coupled(MeasureValued())) @ "x"
        y = ppl.flip(jnp.where(x, 0.5, 0.0) + sigmoid(t[1:])).using(coupled(MeasureValued())) @ "y"
        return jnp.sum(2.0 * x * y + y * t[0])

    def truth(t: Any) -> Any:
        second = lambda x: 0.5 * x + sigmoid(t[1])
        return coins(
            lambda i, b: second(b[0]) if i else sigmoid(t[0]), lambda b: 2.0 * b[0] * b[1] + b[1] * t[0], 2
        )

    second = float(scipy.special.expit(THETA[1]))
    check(program, truth, 2, cuts(coupled, 2, PROBS[0], second, 0.5 + second), draws=2)
