"""Variances against closed forms, within 5 of the report's standard errors: false-alarm rate 6e-7 each."""

import math
from dataclasses import dataclass, replace

import jax
import jax.numpy as jnp
import matplotlib
import numpy as np
import pytest

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam
from ppl.report.compare import compare
from ppl.report.measure import BATCHES, Measurement, Task, pooled
from ppl.report.variance import Alternative, Choice, VarianceReport
from ppl.report.words import first_sentence

KEY = jax.random.key(7)
matplotlib.use("agg")


def close(measurement, variance):
    assert abs(measurement.variance - variance) < 5 * measurement.error + 1e-5 * variance


def squares(params):
    """A scored `a x^2` of `x = N(m, 1)` has slope `a x^2 (x - m)`, of variance `a^2 (m^4 + 14 m^2 + 15)`."""
    x = ppl.normal(params["x"], 1.0).using(Reinforce()) @ "x"
    y = ppl.normal(params["y"], 1.0).using(Reinforce()) @ "y"
    z = ppl.normal(params["z"], 1.0) @ "z"  # reparameterized: 2 z, of variance 4
    return 2.0 * x**2 - y**2 + z**2 + jnp.sin(params["x"])


MEANS = {"x": 0.5, "y": -1.0, "z": 0.3}


def scored_variance(scale, mean):
    return scale**2 * (mean**4 + 14 * mean**2 + 15)


@pytest.fixture(scope="module")
def report():
    candidates = {"y": [Reparam(), Enumerate()], "z": [Reinforce()]}
    return ppl.variance_report(
        ppl.expectation(squares), KEY, MEANS, num_runs=4000, num_samples=2, candidates=candidates
    )


def test_the_variance_of_each_choice_is_that_of_the_closed_form(report):
    expected = {"x": scored_variance(2.0, 0.5), "y": scored_variance(1.0, -1.0), "z": 4.0}
    total = sum(expected.values())
    close(report.gradient, total)
    for address, variance in expected.items():
        choice = report[address]
        close(choice.part, variance)
        assert choice.share == pytest.approx(choice.part.variance / report.gradient.variance)
        noise = abs(2 * {"x": 2.0, "y": -1.0, "z": 1.0}[address] * MEANS[address]) / math.sqrt(variance)
        assert choice.part.signal_to_noise == pytest.approx(noise, rel=0.2)
    assert report.direct.variance == 0
    np.testing.assert_allclose(report.direct.mean[0], np.cos(0.5), rtol=1e-5)
    assert report.parameters == ("['x']", "['y']", "['z']")
    np.testing.assert_allclose(report.gradient.variances, list(expected.values()), rtol=0.3)


def test_what_the_alternatives_would_give(report):
    (reparam,) = report["y"].alternatives
    assert reparam.name == "Reparam()"
    close(reparam.measurement, scored_variance(2.0, 0.5) + 4.0 + 4.0)
    (reinforce,) = report["z"].alternatives
    close(reinforce.measurement, sum(map(scored_variance, (2.0, 1.0, 1.0), (0.5, -1.0, 0.3))))
    assert report["x"].alternatives == ()
    for choice in report.choices:
        for other in choice.alternatives:
            assert other.measurement.time > 0


def test_batches_are_pooled():
    """As NumPy has variances within batches, of runs of which each estimate averages three."""
    found = np.random.default_rng(1).normal(0.1, 2.0, size=(BATCHES, 4, 5))
    task = Task((), 0, 3, 4 * BATCHES)
    assert task.batch == 4
    results = [([b.mean(0)], [((b - b.mean(0)) ** 2).sum()]) for b in found]
    pooling = pooled(results, task, np.arange(BATCHES, dtype=float), 7)
    traces = 3 * found.var(axis=1, ddof=1).sum(axis=-1)
    assert pooling.variance == pytest.approx(traces.mean())
    assert pooling.error == pytest.approx(traces.std(ddof=1) / math.sqrt(BATCHES))
    np.testing.assert_allclose(pooling.mean[0], found.mean((0, 1)))
    assert pooling.time == (BATCHES - 1) / 2
    # The squared norm of a mean overstates the signal by the variance of the mean.
    signal = np.sum(pooling.mean[0] ** 2) - traces.mean() / (3 * 4 * BATCHES)
    expected = math.sqrt(max(signal, 0) / traces.mean())
    assert pooling.signal_to_noise == pytest.approx(expected)
    assert pooling.signal_to_noise_of(0) == pytest.approx(expected)


def test_the_stated_errors_are_right():
    """Over 60 keys the errors of the estimates have the size that is stated."""
    one = ppl.expectation(lambda m: (ppl.normal(m, 1.0).using(Reinforce()) @ "x") ** 2)
    task = Task((1.0,), 0, 1, 200)
    z = []
    for number in range(60):
        keys = jax.random.split(jax.random.fold_in(KEY, number), (BATCHES, task.batch))
        found = np.asarray(jax.vmap(jax.vmap(lambda key: one.grad(key, 1.0)))(keys), np.float64)
        results = [([batch.mean(0)], [((batch - batch.mean(0)) ** 2).sum()]) for batch in found]
        measurement = pooled(results, task)
        z.append((measurement.variance - 30.0) / measurement.error)
    # Heavy tails make the smallest estimates the most confident ones; the spread stays near one.
    assert 0.7 < np.std(z) < 1.8


def test_an_estimator_that_is_refused_is_listed_with_the_reason():
    @ppl.expectation
    def objective(mean):
        x = ppl.normal(mean, 1.0).using(Reinforce()) @ "x"
        return jnp.where(x > 0, 1.0, 0.0)

    report = ppl.variance_report(objective, KEY, 0.0, num_runs=40, candidates=[Reparam(), MeasureValued()])
    reparam, weak = report["x"].alternatives
    assert reparam.measurement is None
    assert reparam.refused.startswith("a value that moves with the parameters, and depends on the choice 'x'")
    assert reparam.refused.endswith(
        "(test_an_estimator_that_is_refused_is_listed_with_the_reason.<locals>.objective)."
    )
    assert weak.measurement is not None
    assert f"x: Reparam() is refused: {reparam.refused}" in str(report)
    with pytest.raises(ppl.DiscontinuousReparameterization):
        ppl.variance_report(objective.using({"x": Reparam()}), KEY, 0.0)


def test_by_default_all_that_exist_and_need_nothing_are_tried():
    @ppl.expectation
    def objective(p):
        return 2.0 * (ppl.flip(p).using(Reinforce()) @ "x")

    report = ppl.variance_report(objective, KEY, 0.25, num_runs=200)
    # The gradient is 2 / p with probability p, and the signal 2: variance 4 (1 / p - 1).
    close(report.gradient, 12.0)
    measured = {other.name: other.measurement for other in report["x"].alternatives}
    assert {"Enumerate()", "MeasureValued()", "Reinforce(baseline='loo')"} <= set(measured)
    assert "Reparam()" not in measured
    assert "Reinforce()" not in measured, "that is there already"
    assert measured["Enumerate()"].variance == 0
    assert measured["Enumerate()"].signal_to_noise == math.inf
    assert "would leave no variance" in str(report)
    assert [measured[name].evaluations for name in ("Enumerate()", "Reinforce(baseline='loo')")] == [2, 1]


def test_addresses_of_inner_expectations_lanes_and_odd_names():
    @ppl.expectation
    def objective(p):
        x = jax.vmap(lambda s: ppl.flip(s * p).using(Reinforce()) @ ("a[0]", "x*"))(jnp.array([0.5, 1.0]))
        inside = ppl.expect(lambda p: 1.0 * (ppl.flip(p).using(Reinforce()) @ "in"))
        return jnp.sum(1.0 * x) + jnp.where(ppl.flip(0.5 * p).propose().retval, inside(p), 0.0)

    report = ppl.variance_report(objective, KEY, 0.5, num_runs=400, candidates=[MeasureValued()])
    assert [choice.address for choice in report.choices] == ["a[0]/x*", "<draw>", "in"]
    # A one of probability c p has the score 1 / p: of each lane the variance is c / p - c^2.
    close(report["a[0]/x*"].part, (0.5 / 0.5 - 0.25) + (1 / 0.5 - 1))
    # Summed over, the outer coin is the factor p / 2, or its derivative 1 / 2.
    close(report["in"].part, 0.25**2 * (1 / 0.5 - 1))
    close(report["<draw>"].part, 0.5**2 * 0.25)
    assert all(choice.alternatives[0].measurement is not None for choice in report.choices)


def measurement(variance, time, spread=0.01):
    wiggle = 1 + spread * np.where(np.arange(BATCHES) % 2, 1.0, -1.0)
    batches, times = variance * wiggle, np.full(BATCHES, time)
    return Measurement(
        variance, variance * spread / math.sqrt(BATCHES), [np.array(2.0)], np.array([variance]), time, 1,
        batches, times, 10_000,
    )  # fmt: skip


def test_comparisons():
    base = measurement(4.0, 1e-6)
    assert compare(measurement(1.0, 2e-6), base).cost == pytest.approx(0.5)
    assert compare(measurement(1.0, 2e-6), base).is_better
    assert compare(measurement(4.0, 2e-6), base).is_worse
    same = compare(measurement(4.001, 1e-6, 0.02), base)
    assert not same.is_better
    assert not same.is_worse
    perhaps = compare(measurement(3.9, 1e-6, 0.2), base)
    assert perhaps.cost < 1
    assert not perhaps.is_better
    assert compare(measurement(0.0, 5e-6), base).is_better
    assert compare(base, measurement(0.0, 5e-6)).is_worse
    nothing = measurement(0.0, 1e-6)
    assert compare(nothing, measurement(0.0, 2e-6)).is_better
    assert compare(measurement(math.nan, 1e-6), base).is_worse


def test_batches_that_saw_the_same_keys_are_compared_as_pairs():
    """A small difference shows through large common noise."""
    base, less = measurement(4.0, 1e-6, 0.5), measurement(3.9, 1e-6, 0.5)
    assert compare(less, base).is_better
    assert less.error > 0.1


def by_hand():
    """A report with round numbers."""
    base = measurement(4.0, 2e-6)
    others = (
        Alternative(MeasureValued(), "MeasureValued()", measurement(0.1, 3.6e-6)),
        Alternative(Reparam(), "Reparam()", None, "it jumps at model.py:3 (f)."),
    )
    worse = (Alternative(MeasureValued(), "MeasureValued()", measurement(4.0, 3e-6)),)
    choices = (
        Choice("layer/x", "normal", "", "Reinforce()", measurement(3.0, math.nan), 0.75, others),
        Choice("k", "flip", "", "Enumerate()", measurement(0.0, math.nan, 0.0), 0.0, worse),
    )
    return VarianceReport(base, choices, measurement(1.0, math.nan), ("['a']",), 5000, 2)


def test_the_report_as_text():
    lines = [
        "gradient of one run: variance 4 ± 0.009, signal to noise 1, 2 µs",
        "(5000 estimates of 2 runs each)",
        "",
        "choice    family  estimator     variance  share  signal to noise",
        "--------  ------  -----------  ---------  -----  ---------------",
        "layer/x   normal  Reinforce()  3 ± 0.007   75 %              1.2",
        "k         flip    Enumerate()          0    0 %              inf",
        "(direct)                       1 ± 0.002   25 %                2",
        "",
        "choice   instead          variance   time  variance x time",
        "-------  ---------------  --------  -----  ---------------",
        "layer/x  MeasureValued()   × 0.025  × 1.8          × 0.045",
        "k        MeasureValued()       × 1  × 1.5            × 1.5",
        "layer/x: Reparam() is refused: it jumps at model.py:3 (f).",
        "",
        "layer/x: 75 % of the variance; MeasureValued() would cut the gradient's variance 40-fold for 1.8 "
        "times the time.",
        "k: 0 % of the variance; keep Enumerate(), nothing that was tried is better.",
    ]
    assert str(by_hand()).splitlines() == lines


def test_a_direct_part_that_is_most_of_the_variance_is_pointed_out():
    report = replace(by_hand(), direct=measurement(3.5, math.nan))
    last = str(report).splitlines()[-1]
    assert last.startswith("(direct): 88 % of the variance is that of the result's own derivative")


def test_the_report_as_a_picture(tmp_path):
    report = by_hand()
    figure = report.plot()
    parts, costs = figure.axes
    assert [bar.get_width() for bar in parts.patches] == [3.0, 0.0, 1.0]
    assert [label.get_text() for label in parts.get_yticklabels()] == [
        "layer/x\nReinforce()", "k\nEnumerate()", "(direct)",
    ]  # fmt: skip
    assert [text.get_text() for text in costs.get_legend().get_texts()] == ["MeasureValued()"]
    (marker,) = [line for line in costs.lines if line.get_marker() == "o"]
    assert marker.get_xdata() == pytest.approx([0.045, 1.5])
    figure.savefig(tmp_path / "report.png")


def test_sentences():
    message = "one at model.py:3 (f) is x.\nTwo: more. Three."
    assert first_sentence(message) == "one at model.py:3 (f) is x."


def test_too_few_runs_are_refused():
    objective = ppl.expectation(squares)
    with pytest.raises(ValueError, match="num_runs of 40 or more, got 4 and 10"):
        ppl.variance_report(objective, KEY, MEANS, num_runs=10)


def test_every_other_estimator_is_tried_against_one_of_a_users():
    """Also those without fields, whose structures JAX does not tell apart."""
    from ppl.report.alternatives import spots

    class Mine(type(Reinforce()).__mro__[1]):
        def admits(self, distribution):
            return True

        def contribute(self, distribution, noise, order):
            return Reinforce().contribute(distribution, noise, order)

    mine = jax.tree_util.register_dataclass(dataclass(frozen=True)(Mine))
    objective = ppl.expectation(lambda m: (ppl.normal(m, 1.0).using(mine()) @ "x") ** 2)
    (spot,) = spots(objective, (0.3,))
    assert {Reparam, MeasureValued, Reinforce} <= {type(e) for e in spot.candidates}
