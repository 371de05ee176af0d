"""Estimators that are found where the best is known; weighed by evaluations, so that keys decide alone."""

import math
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from ppl.estimators import Enumerate, MeasureValued, Reinforce, Reparam
from ppl.report.compare import compare
from ppl.report.measure import BATCHES, Measurement, Task, standard_error
from ppl.report.search import _Search

KEY = jax.random.key(17)


def toy(params):
    """A choice that is best reparameterized, and a coin that is best summed over."""
    x = ppl.normal(params["x"], 1.0).using(Reinforce()) @ "x"
    k = ppl.flip(params["k"]).using(Reinforce()) @ "k"
    return (x + jnp.where(k, 6.0, 1.0)) ** 2


PARAMS = {"x": 0.2, "k": 0.3}


def search(objective, *args, **options):
    return ppl.choose_estimators(
        objective, KEY, *args, **{"timed": False, "budget": math.inf, "num_runs": 200} | options
    )


def test_the_best_is_found_and_can_be_used():
    objective = ppl.expectation(toy)
    found = search(objective, PARAMS, candidates={"x": [Reparam(), MeasureValued()], "k": [Enumerate()]})
    assert found == {"x": Reparam(), "k": Enumerate()}
    keys = jax.random.split(KEY, 200)

    def spread(one):
        slopes = jax.vmap(lambda key: one.grad(key, PARAMS))(keys)
        return sum(float(jnp.var(slope)) for slope in slopes.values())

    assert spread(objective.using(found)) < 0.1 * spread(objective)


def test_two_that_hide_what_either_would_gain_are_changed_at_once():
    """Four evaluations for half the variance are no gain, but seven for all of it."""

    def twins(mean):
        x, y = (ppl.normal(mean, 1.0).using(Reinforce()) @ name for name in "xy")
        return jnp.where(x > 0, 60.0, 50.0) + jnp.where(y > 0, 60.0, 50.0)

    found = search(ppl.expectation(twins), 0.2, candidates=[MeasureValued()])
    assert found == {"x": MeasureValued(), "y": MeasureValued()}


def test_the_same_key_gives_the_same_answer_and_a_good_program_stays():
    objective = ppl.expectation(lambda m: (ppl.normal(m, 1.0) @ "x") ** 2)
    others = [Reparam(), MeasureValued(), Reinforce()]
    assert search(objective, 1.0, candidates=others) == search(objective, 1.0, candidates=others) == {}


def test_what_makes_no_difference_is_not_chosen():
    """Of a program whose gradient is noise, equally large with either estimator."""
    objective = ppl.expectation(lambda m: 1.0 * (ppl.normal(m, 1.0).using(Reinforce()) @ "x"))
    same = [Reinforce(baseline=0.0), Reinforce(baseline=-0.0)]
    assert search(objective, 0.0, candidates=same) == {}


def test_of_two_without_variance_the_one_of_fewer_evaluations_is_taken():
    """A coin's measure-valued derivative takes a draw and its opposite; a die's sum more values than that."""

    def die(t):
        k = ppl.categorical(logits=jnp.array([0.0, t, 2 * t, 0.0])).using(Reinforce()) @ "k"
        return jnp.asarray(k == 1, float)

    def coin(t):
        return jnp.where(ppl.flip(t).using(Reinforce()) @ "k", 3.0, 1.0)

    found = search(ppl.expectation(coin), 0.4, candidates=[Enumerate(), MeasureValued()])
    assert found in ({"k": Enumerate()}, {"k": MeasureValued()})
    assert search(ppl.expectation(die), 0.4, candidates=[Enumerate()]) == {"k": Enumerate()}


def test_a_budget_of_nothing_changes_nothing():
    assert search(ppl.expectation(toy), PARAMS, budget=0.0) == {}


def test_biased_estimators_are_never_chosen():
    objective = ppl.expectation(lambda m: (ppl.normal(m, 1.0).using(Reinforce()) @ "x") ** 2)
    assert search(objective, 3.0, candidates=[Wrong()]) == {}
    assert search(objective, 3.0, candidates=[Wrong(), Reparam()]) == {"x": Reparam()}
    report = ppl.variance_report(objective, KEY, 3.0, candidates=[Wrong()], num_runs=40)
    assert "Wrong() (biased)" in str(report)
    assert "keep Reinforce()" in str(report)


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class Wrong(Reparam):
    """Less variance than any, and a bias."""

    biased = True


def test_timed():
    """By time, too, a reparameterized choice beats a scored one thirty times as noisy."""
    objective = ppl.expectation(lambda m: (ppl.normal(m, 1.0).using(Reinforce()) @ "x") ** 2)
    found = ppl.choose_estimators(objective, KEY, 3.0, num_runs=100, candidates=[Reparam()])
    assert found == {"x": Reparam()}


def measurement(batches, time):
    """Of a variance of this many, batch by batch."""
    return Measurement(
        float(np.mean(batches)), standard_error(batches), [np.array(2.0)], np.array([1.0]), time, 1,
        batches, np.full(BATCHES, time), 10_000,
    )  # fmt: skip


def test_of_those_that_cannot_be_told_apart_the_quicker_is_taken():
    noise = np.random.default_rng(0).normal(size=(2, BATCHES))
    cheap = measurement(1.05 + 0.4 * noise[0], 1e-6)
    found = {
        0: measurement(np.full(BATCHES, 4.0), 1e-6),
        1: measurement(0.48 + 0.1 * noise[1], 2e-6),  # the best, barely
        2: cheap,
        3: measurement(np.full(BATCHES, 3.0), 0.9e-6),  # quicker still, and worse for sure
    }
    assert compare(found[1], found[0]).cost < compare(found[2], found[0]).cost
    assert choosing(found, 0) == 2
    assert choosing({0: cheap, 1: cheap}, 0) == 0, "no better, so what is there stays"


def choosing(found, present):
    task = Task((), 0, 1, 100)
    return _Search(ppl.expectation(toy), KEY, task, 0.0, True)._best(found, present)
