"""Changed traces: weights against densities taken apart by hand, and steps that keep a posterior as it is."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.scipy.stats import norm
from scipy.stats import chi2

import ppl

KEY = jax.random.key(5)
FALSE_ALARM = 1e-6


@ppl.gen
def branching(a):
    heads = ppl.flip(a) @ "heads"
    z = jax.lax.cond(heads, lambda: ppl.normal(0.0, 1.0) @ "u", lambda: (ppl.normal(3.0, 1.0) @ "v") * 2.0)

    def step(x, _):
        x = ppl.normal(x, 1.0) @ "x"
        return x, None

    last, _ = jax.lax.scan(step, z, None, length=3)
    jax.vmap(lambda shift: ppl.normal(last + shift, 1.0) @ "y")(jnp.arange(2.0))
    return last


def with_heads(heads):
    return branching(0.5).generate(KEY, {"heads": heads})[0]


def test_changed_choices_weigh_the_ratio_of_densities():
    trace = with_heads(True)
    new, weight = branching(0.5).update(KEY, trace, {"x": jnp.zeros(3)})
    np.testing.assert_allclose(weight, new.log_density - trace.log_density, rtol=1e-5)
    np.testing.assert_allclose(new.log_density, branching(0.5).log_density(new.choices), rtol=1e-6)
    assert new.retval == 0.0 and new.choices["u"] == trace.choices["u"]
    assert (new.choices["y"] == trace.choices["y"]).all()


def test_changed_arguments_weigh_the_ratio_of_densities():
    trace = with_heads(True)
    new, weight = branching(0.9).update(KEY, trace, {})
    np.testing.assert_allclose(weight, np.log(0.9 / 0.5), rtol=1e-5)
    assert new.args == (0.9,)
    assert jax.tree.all(jax.tree.map(lambda a, b: (a == b).all(), new.choices, trace.choices))


@pytest.mark.parametrize("heads", [True, False])
def test_what_another_branch_makes_is_drawn(heads):
    trace = with_heads(heads)
    runs = [branching(0.5).update(k, trace, {"heads": not heads}) for k in jax.random.split(KEY, 3)]
    made, gone = ("v", "u") if heads else ("u", "v")
    assert len({float(new.choices[made]) for new, _ in runs}) == 3
    for new, weight in runs:
        fresh = norm.logpdf(new.choices[made], 3.0 if heads else 0.0, 1.0)
        np.testing.assert_allclose(weight, new.log_density - trace.log_density - fresh, rtol=1e-4)
        assert new.choices[gone] == 0.0


def test_lanes_that_take_another_branch_are_drawn_and_the_others_kept():
    @ppl.gen
    def lanes(flags):
        one = lambda flag: jax.lax.cond(flag, lambda: ppl.normal(0.0, 1.0) @ "u", lambda: 0.0)
        return jax.vmap(one)(flags)

    trace = lanes(jnp.array([True, True, False])).simulate(KEY)
    new, weight = lanes(jnp.array([True, False, True])).update(jax.random.key(1), trace, {})
    assert new.choices["u"][0] == trace.choices["u"][0] and new.choices["u"][1] == 0.0
    assert new.choices["u"][2] not in (0.0, trace.choices["u"][2])
    np.testing.assert_allclose(weight, -norm.logpdf(trace.choices["u"][1]), rtol=1e-5)


def test_weighted_traces_of_one_program_become_those_of_another():
    """E[exp(weight)] is the ratio of evidences; 20,000 traces, within 5 standard errors."""

    @ppl.gen
    def model(sd):
        x = ppl.normal(0.0, sd) @ "x"
        ppl.normal(x, 1.0) @ "y"

    def weigh(key):
        trace, first = model(1.0).condition({"y": 0.5}).generate(key, {})
        return first, first + model(1.3).condition({"y": 0.5}).update(key, trace, {})[1]

    before, after = jax.jit(jax.vmap(weigh))(jax.random.split(KEY, 20_000))
    for weights, sd in ((before, 1.0), (after, 1.3)):
        truth = norm.pdf(0.5, 0.0, (1 + sd**2) ** 0.5)
        error = jnp.exp(weights).std() / len(weights) ** 0.5
        assert abs(jnp.exp(weights).mean() - truth) < 5 * error


# --- drawing anew ----------------------------------------------------------------------------------


@ppl.gen
def coins(a):
    heads = ppl.flip(a) @ "heads"
    z = jax.lax.cond(heads, lambda: ppl.flip(0.9) @ "u", lambda: ppl.flip(0.2) @ "v")
    both = jax.vmap(lambda p: ppl.flip(jnp.where(z, p, 0.5)) @ "w")(jnp.array([0.8, 0.3]))
    ppl.flip(jnp.where(both.any() & heads, 0.7, 0.25)) @ "seen"


def posterior_of_coins():
    """Every run and its probability given what is seen, by enumeration."""
    runs, weights = [], []
    for bits in np.indices((2,) * 4).reshape(4, -1).T.astype(bool):
        heads, z, w0, w1 = bits
        choices = {
            "heads": heads, "u": heads & z, "v": ~heads & z, "w": np.array([w0, w1]), "seen": np.array(True),
        }  # fmt: skip
        runs.append(choices)
        weights.append(float(jnp.exp(coins(0.35).log_density(choices))))
    return runs, np.array(weights) / sum(weights)


@pytest.mark.parametrize("addresses", ["heads", "w", ("heads", "u", "v"), ("u", "w")], ids=str)
def test_an_accepted_step_leaves_the_posterior_as_it_is(addresses):
    """From 40,000 draws of the posterior, one step of Metropolis and Hastings: the law is the same."""
    runs, probabilities = posterior_of_coins()
    count = 40_000
    target = coins(0.35).condition({"seen": True})
    table = jax.tree.map(lambda *rows: jnp.stack([jnp.asarray(row) for row in rows]), *runs)

    def step(key):
        pick, draw, accept = jax.random.split(key, 3)
        start = jax.tree.map(lambda x: x[jax.random.categorical(pick, jnp.log(probabilities))], table)
        trace = target.program.generate(pick, start)[0]
        new, weight = target.regenerate(draw, trace, addresses)
        taken = jnp.log(jax.random.uniform(accept)) < weight
        return jax.tree.map(lambda a, b: jnp.where(taken, a, b), new.choices, trace.choices), taken

    choices, taken = jax.jit(jax.vmap(step))(jax.random.split(KEY, count))
    assert 0.1 < taken.mean() < 1.0
    code = lambda c: (
        np.stack([c["heads"], c["u"] | c["v"], c["w"][..., 0], c["w"][..., 1]], -1) @ [8, 4, 2, 1]
    )
    seen = np.bincount(code(jax.tree.map(np.asarray, choices)), minlength=16)
    expected = count * probabilities
    assert (jax.tree.map(np.asarray, choices)["seen"]).all()
    assert ((seen - expected) ** 2 / expected).sum() < chi2.isf(FALSE_ALARM, 15)


def test_the_weight_of_a_step_by_hand():
    trace = with_heads(True)
    new, weight = branching(0.5).regenerate(KEY, trace, "u")
    moved = norm.logpdf(trace.choices["x"][0], new.choices["u"]) - norm.logpdf(
        trace.choices["x"][0], trace.choices["u"]
    )
    np.testing.assert_allclose(weight, moved, rtol=1e-4)
    everything, nothing = branching(0.5).regenerate(jax.random.key(1), trace, ["heads", "u", "v", "x", "y"])
    assert nothing == 0.0 and (everything.choices["x"] != trace.choices["x"]).all()


def test_what_does_not_fit_is_refused():
    trace = with_heads(True)
    with pytest.raises(ppl.errors.UnusedChoice, match="'z' is no choice"):
        branching(0.5).update(KEY, trace, {"z": 1.0})
    with pytest.raises(ppl.errors.UnknownAddress, match="'z' is no choice"):
        branching(0.5).regenerate(KEY, trace, "z")
    with pytest.raises(ppl.UnsupportedProgram, match="no addresses"):
        ppl.normal(0.0, 1.0).update(KEY, trace, 1.0)
    with pytest.raises(ppl.UnsupportedProgram, match=r"not that of its expected value"):
        jax.grad(lambda a: branching(a).update(KEY, trace, {})[1])(0.5)

    @ppl.gen
    def many(count):
        jax.vmap(lambda _: ppl.normal(0.0, 1.0) @ "x")(jnp.arange(count))

    short = many(2).simulate(KEY)
    with pytest.raises(ppl.errors.ChoiceShapeError, match="in the trace"):
        many(3).update(KEY, short, {})
    new, weight = many(3).update(KEY, short, {"x": jnp.ones(3)})
    np.testing.assert_allclose(weight, new.log_density - short.log_density, rtol=1e-5)

    hidden = ppl.gen(lambda: ppl.marginal(branching(0.5), ["y"]) @ "m")
    with pytest.raises(ppl.UnsupportedProgram, match="cannot be changed"):
        hidden().update(KEY, hidden().simulate(KEY), {})


def test_what_is_observed_stays_where_another_branch_makes_it():
    @ppl.gen
    def observed_branch():
        heads = ppl.flip(0.5) @ "heads"
        jax.lax.cond(heads, lambda: ppl.normal(0.0, 1.0) @ "y", lambda: 0.0)
        ppl.normal(jnp.where(heads, 1.0, 0.0), 1.0) @ "z"

    target = observed_branch().condition({"y": 0.3})
    trace, _ = target.generate(KEY, {"heads": False, "z": 0.4})
    runs = [target.regenerate(k, trace, ["heads"]) for k in jax.random.split(KEY, 8)]
    changed = [(new, weight) for new, weight in runs if new.choices["heads"]]
    assert 0 < len(changed) < 8
    for new, weight in changed:
        assert new.choices["y"] == jnp.float32(0.3) and new.choices["z"] == jnp.float32(0.4)
        truth = norm.logpdf(0.3) + norm.logpdf(0.4, 1.0) - norm.logpdf(0.4)
        np.testing.assert_allclose(weight, truth, rtol=1e-5)
    with pytest.raises(ppl.errors.UnusedChoice, match=r"'y'.*is observed"):
        target.regenerate(KEY, trace, ["y"])
