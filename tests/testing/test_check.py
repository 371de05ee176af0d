"""`check_unbiased`: what it finds is right, what it lets pass is right, and it says what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import ppl
from ppl.estimators import GumbelSoftmax, MeasureValued, Reinforce, Reparam
from ppl.testing import Biased, Unresolved, check_unbiased

KEY = jax.random.key(5)
P = {"m": 0.2, "s": 0.1}


@ppl.expectation
def jump(p: Any) -> Any:
    x = ppl.normal(p["m"], jnp.exp(p["s"])).using(Reinforce()) @ "x"
    return jnp.where(x > 0.5, jnp.exp(0.3 * x), x**2)


@ppl.expectation
def chain(p: Any) -> Any:
    def step(z: Any, y: Any) -> Any:
        z = (ppl.flip(jax.nn.sigmoid(p["m"] + z)).using(Reinforce(baseline=0.3)) @ "z") * 1.0
        return z, -((y - p["s"] * z) ** 2)

    return jnp.sum(jax.lax.scan(step, 0.0, jnp.arange(3.0))[1])


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Halved(Reinforce):
    """Half the score."""

    def contribute(self, distribution: Any, noise: Any, order: int) -> Any:
        made = super().contribute(distribution, noise, order)
        return made._replace(score=0.5 * made.score)


@pytest.mark.parametrize("objective", [jump, chain], ids=["jump", "chain"])
def test_right_estimators_pass_exactly_to_second_order(objective: Any) -> None:
    report = check_unbiased(objective, (P,), key=KEY, order=2)
    assert report.verdict == "unbiased" and report.method == "exact" and report.false_alarm == 0
    names = [row.quantity for row in report.rows]
    assert names[:3] == ["value", "d/d ['m']", "d/d ['s']"] and names[-1] == "second, random direction 2"
    assert all(abs(row.estimate - row.truth) < 1e-7 for row in report.rows)


@pytest.mark.parametrize("method", ["exact", "statistical"])
def test_half_a_score_is_found(method: str) -> None:
    with pytest.raises(Biased, match=r"d/d \['s'\] .*biased") as caught:
        check_unbiased(jump.using({"x": Halved()}), (P,), key=KEY, method=method)
    report = caught.value.report
    assert report.method == method
    assert {row.quantity for row in report.rows if row.verdict == "biased"} & {"d/d ['m']", "d/d ['s']"}
    assert report.rows[0].verdict != "biased"  # the value is right


def test_the_statistical_tier_passes_what_is_right_and_states_what_it_would_find() -> None:
    report = check_unbiased(jump, (P,), key=KEY, method="statistical", resolution=0.04)
    assert report.verdict == "unbiased" and report.method == "statistical"
    assert 0.01 < report.detectable < 0.06 and report.false_alarm == 1e-6
    assert all(row.radius <= 0.04 * row.deviation for row in report.rows)


def test_too_few_draws_are_unresolved() -> None:
    with pytest.raises(Unresolved, match="unresolved"):
        check_unbiased(jump, (P,), key=KEY, method="statistical", max_draws=8192, resolution=1e-3)


def test_what_is_too_large_is_compared_with_other_estimators() -> None:
    @ppl.expectation
    def large(t: Any) -> Any:
        x = jax.vmap(lambda s: ppl.normal(t * s, 1.0).using(Reinforce()) @ "x")(jnp.linspace(0.5, 1.0, 12))
        return jnp.sum(jnp.tanh(x + 1))

    report = check_unbiased(large, (0.3,), key=KEY, resolution=0.05)
    assert report.verdict == "unbiased" and "other estimators (x: Reparam)" in report.source
    broken = large.using({"x": Halved()})
    with pytest.raises(Biased):
        check_unbiased(broken, (0.3,), key=KEY, resolution=0.05)


def test_against_a_closed_form_and_another_expectation() -> None:
    @ppl.expectation
    def moment(m: Any) -> Any:
        return (ppl.normal(m, 1.0).using(Reinforce()) @ "x") ** 2

    assert check_unbiased(moment, (0.3,), key=KEY, against=lambda m: m**2 + 1, order=2).verdict == "unbiased"
    other = moment.using({"x": Reparam()})
    assert check_unbiased(moment, (0.3,), key=KEY, against=other).verdict == "unbiased"
    with pytest.raises(Biased):
        check_unbiased(moment, (0.3,), key=KEY, against=lambda m: m**2 + 1.01)
    with pytest.raises(TypeError, match="differentiable function"):
        check_unbiased(moment, (0.3,), key=KEY, against=1.0)


# --- relations that need no truth, between programs that are too large to integrate over ----------


def walk(how: Any, steps: int = 16) -> Any:
    """A random walk with a jump, in a loop: the expected value is not known."""

    def program(t: Any) -> Any:
        def step(x: Any, _: Any) -> Any:
            x = jnp.tanh(x) + (ppl.normal(t["m"] * x + 0.3, t["s"]).using(how) @ "x")
            return x, jnp.where(x > 0.5, x**2, 0.1 * x)

        return jnp.sum(jax.lax.scan(step, 0.0, None, length=steps)[1])

    return ppl.expectation(program)


def unrolled(how: Any, steps: int = 16, forgotten: int = -1, strength: float = 1.0) -> Any:
    def program(t: Any) -> Any:
        m = strength * t["m"]
        x, total = 0.0, 0.0
        for i in range(steps):
            x = jnp.tanh(x) + (ppl.normal(m * x + 0.3, t["s"]).using(how) @ (str(i), "x"))
            total += jnp.where(x > 0.5, x**2, 0.1 * x) if i != forgotten else 0.0
        return total

    return ppl.expectation(program)


WALK = {"m": 0.4, "s": 0.9}


def test_a_loop_and_the_loop_unrolled_are_the_same_run_for_run() -> None:
    report = check_unbiased(walk(Reinforce()), (WALK,), key=KEY, against=unrolled(Reinforce()))
    assert report.verdict == "unbiased" and report.method == "statistical"
    assert "both give the same numbers, run for run" in report.notes
    assert all(row.deviation == 0 for row in report.rows)
    with pytest.raises(Biased, match="expectation that was given"):
        check_unbiased(walk(Reinforce()), (WALK,), key=KEY, against=unrolled(Reinforce(), forgotten=15))


def test_a_loop_with_other_estimators() -> None:
    """The noise is the same, what is made of it is not."""
    other = unrolled(Reinforce(baseline="average"))
    assert check_unbiased(walk(Reinforce()), (WALK,), key=KEY, against=other).verdict == "unbiased"
    with pytest.raises(Biased):
        check_unbiased(walk(Halved()), (WALK,), key=KEY, against=unrolled(Reinforce()))
    with pytest.raises(Biased):
        check_unbiased(walk(Reinforce()), (WALK,), key=KEY, against=unrolled(Reinforce(), strength=1.1))


@pytest.mark.parametrize("scale", [3.0, 1.0], ids=["scaled", "not scaled"])
def test_all_minibatches_on_average_are_all_data(scale: float) -> None:
    data = jnp.sin(jnp.arange(12.0)) + 1.0

    def loss(t: Any, rows: Any, factor: Any) -> Any:
        x = jax.vmap(lambda y: ppl.normal(t["m"] * y, t["s"]).using(Reinforce()) @ "x")(rows)
        return factor * jnp.sum(jnp.exp(-x) - rows * x)

    batched = lambda t: jnp.mean(jax.vmap(lambda rows: loss(t, rows, scale))(data.reshape(3, 4)))
    full = ppl.expectation(lambda t: loss(t, data, 1.0))
    check = lambda: check_unbiased(ppl.expectation(batched), (WALK,), key=KEY, against=full, resolution=0.05)
    if scale == 3.0:
        assert check().verdict == "unbiased"
    else:
        with pytest.raises(Biased):
            check()


def test_functions_of_a_key_are_compared_run_for_run() -> None:
    """Compiled or not, they may round apart in single precision."""
    f = lambda key: jnp.sum(jnp.exp(jax.random.normal(key, (50,)))) ** 2
    report = check_unbiased(f, key=KEY, against=jax.jit(lambda key: jnp.sum(jnp.exp(
        jax.random.normal(key, (50,)))[::-1]) ** 2))  # fmt: skip
    assert report.verdict == "unbiased" and "both give the same numbers, run for run" in report.notes
    with pytest.raises(Biased):
        check_unbiased(f, key=KEY, against=lambda key: 1.001 * f(key))
    with pytest.raises(TypeError, match=r"against.*has shape \(2,\)"):
        check_unbiased(f, key=KEY, against=lambda key: jnp.zeros(2))


def test_two_constants_that_differ() -> None:
    """No noise reaches either: they are told apart by what they are."""
    one = lambda key: jnp.array([1.0, 2.0])
    with pytest.raises(Biased):
        check_unbiased(one, key=KEY, against=lambda key: jnp.array([1.0, 2.01]))


def test_estimators_of_other_origin() -> None:
    right = lambda key: {"x": jax.random.normal(key, (2,)) + jnp.array([1.0, 2.0])}
    mean = {"x": np.array([1.0, 2.0])}
    assert check_unbiased(right, key=KEY, against=mean, resolution=0.05).verdict == "unbiased"
    with pytest.raises(Biased, match=r"\['x'\]\[1\]"):
        check_unbiased(right, key=KEY, against={"x": np.array([1.0, 2.2])})
    baked = lambda key: {"x": jnp.array([1.1, 2.0])}
    with pytest.raises(Biased, match="the same number for every key"):
        check_unbiased(baked, key=KEY, against=mean)
    with pytest.raises(TypeError, match=r"shape \(2,\)"):
        check_unbiased(right, key=KEY, against={"x": 1.0})
    with pytest.raises(TypeError, match="takes a key alone"):
        check_unbiased(right, key=KEY)


def test_skewed_noise_does_not_alarm() -> None:
    """The score function of x**4, at which a t test of 1,024 draws rejects 42 times too often."""
    scores = jax.jit(jax.vmap(jax.vmap(lambda key: (x := jax.random.normal(key)) * (x**4))))
    draws = np.asarray(scores(jax.random.split(KEY, (40, 20_000))), np.float64)
    from ppl.testing.sequential import MeanTest

    for batch in draws:
        test = MeanTest(np.array([2 * batch.std()]))
        for part in np.split(batch, 10):
            test.add(part[:, None])
            assert not test.rejects(0.01)


def test_biased_by_design_must_be_named() -> None:
    @ppl.expectation
    def relaxed(t: Any) -> Any:
        return (ppl.bernoulli(logits=t).using(GumbelSoftmax(0.5)) @ "b") ** 2

    with pytest.raises(ppl.PPLError, match=r"'b' .*GumbelSoftmax, which is biased by design.*biased=\['b'\]"):
        check_unbiased(relaxed, (0.3,), key=KEY)
    report = check_unbiased(relaxed, (0.3,), key=KEY, biased=["b"])
    assert report.verdict == "biased" and "biased by design, as was said: b" in str(report)


def test_leave_one_out_needs_samples() -> None:
    @ppl.expectation
    def loo(t: Any) -> Any:
        return 3.0 * (ppl.flip(jax.nn.sigmoid(t)).using(Reinforce(baseline="loo")) @ "x")

    assert check_unbiased(loo, (0.3,), key=KEY, num_samples=2, order=2).verdict == "unbiased"


def test_the_deviation_is_that_of_one_run() -> None:
    """Of the score function of a flip: closed form."""

    @ppl.expectation
    def flip(p: Any) -> Any:
        return 2.0 * (ppl.flip(p).using(Reinforce()) @ "x")

    row = check_unbiased(flip, (0.3,), key=KEY).rows[1]
    assert row.deviation == pytest.approx(np.sqrt(0.3 * (2 / 0.3) ** 2 - 4.0))


def test_many_parameters_are_looked_at_along_random_directions() -> None:
    @ppl.expectation
    def wide(w: Any) -> Any:
        return (ppl.flip(jax.nn.sigmoid(jnp.sum(w))).using(Reinforce()) @ "x") * jnp.sum(w**2)

    report = check_unbiased(wide, (jnp.linspace(-0.3, 0.4, 40),), key=KEY, directions=3)
    assert [row.quantity for row in report.rows] == ["value"] + [
        f"d/d random direction {i}" for i in (1, 2, 3)
    ]


def test_nonsense_is_refused() -> None:
    for wrong in ({"method": "guess"}, {"order": 3}):
        with pytest.raises(ValueError):
            check_unbiased(jump, (P,), key=KEY, **wrong)
    with pytest.raises(TypeError, match="expected an expectation"):
        check_unbiased(3, key=KEY)
    with pytest.raises(ppl.PPLError, match="cannot be integrated"):
        many = jump.using({"x": MeasureValued()})
        check_unbiased(many, (P,), key=KEY, method="exact")


def test_the_picture_has_a_row_for_each_quantity(tmp_path: Any) -> None:
    report = check_unbiased(chain, (P,), key=KEY)
    figure = report.plot()
    assert [t.get_text() for t in figure.axes[0].get_yticklabels()] == [row.quantity for row in report.rows]
    figure.savefig(tmp_path / "bias.png")
