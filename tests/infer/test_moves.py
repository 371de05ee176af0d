"""Moves, and the particles that are moved: the laws by enumeration, then against closed forms."""

from typing import override

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from scipy import stats

import ppl
from ppl.infer import (
    HMC,
    MALA,
    NUTS,
    Annealed,
    Cycle,
    Importance,
    Pathfinder,
    RandomWalk,
    Regenerate,
    Repeat,
    Systematic,
    Tempered,
)

from .enumerable import TRUE, coin, coin_pair, guess, hidden_coin, laws_of

KEY = jax.random.key(17)
FALSE_ALARM = 1e-6
U, V = Regenerate("u"), Regenerate("v")


@ppl.gen
def forked(a):
    """Which choices there are depends on the first; so does which of the observed ones is made."""
    c = ppl.flip(a) @ "c"
    d = jax.lax.cond(c, lambda: ppl.flip(0.7) @ "d", lambda: ppl.flip(0.2) @ "e")
    jax.lax.cond(c, lambda: ppl.flip(jnp.where(d, 0.8, 0.3)) @ "x", lambda: ppl.flip(0.4) @ "y")
    ppl.flip(jnp.where(d, 0.8, 0.25)) @ "z"


@ppl.gen
def forked_lanes(a):
    c = jax.vmap(lambda b: ppl.flip(b) @ "c")(jnp.array([a, 0.7]))
    d = jax.vmap(lambda c: jax.lax.cond(c, lambda: ppl.flip(0.6) @ "d", lambda: True))(c)
    ppl.flip(jnp.where(c.all() & d[0], 0.8, 0.25)) @ "z"


@ppl.gen
def within(a):
    """A posterior as a part of a program."""
    found = ppl.normalize(coin(a).condition({"x": TRUE}), Tempered(2, U, (1.0,))) @ "part"
    ppl.flip(jnp.where(found["u"], 0.9, 0.2)) @ "w"


def posterior(program, seen, algorithm):
    return lambda a: ppl.normalize(program(a).condition(seen), algorithm)


X = {"x": TRUE}
MEASURES = {
    "tempered": posterior(coin, X, Tempered(2, U, (0.4, 1.0), threshold=0.9)),
    "from a proposal": posterior(coin, X, Tempered(2, U, (0.4, 1.0), guess(0.3), threshold=None)),
    "not reversible": posterior(coin_pair, X, Annealed(1, Cycle(U, V), (0.3, 1.0))),
    "branches": posterior(
        forked, {"x": TRUE, "y": ~TRUE, "z": TRUE}, Annealed(1, Regenerate("c"), (0.4, 1.0))
    ),
    "lanes, repeated": posterior(forked_lanes, {"z": TRUE}, Annealed(1, Repeat(Regenerate("c"), 2), (1.0,))),
    "a marginal": lambda a: ppl.marginal(coin(a), ["x"], Annealed(2, U, (0.4, 1.0))),
    "part of a program": within,
}


@pytest.mark.usefixtures("x64")
@pytest.mark.parametrize("name", MEASURES)
def test_both_estimates_are_unbiased(name):
    _, laws = laws_of(MEASURES[name])
    possible = laws.probability > 0
    assert possible.sum() > 1
    np.testing.assert_allclose(laws.probability.sum(), 1, rtol=1e-10)
    np.testing.assert_allclose(laws.reciprocal[possible], 1, rtol=1e-10)
    np.testing.assert_allclose(laws.density[possible], laws.probability[possible], rtol=1e-10)


@jax.tree_util.register_pytree_node_class
class Forwards(Cycle):
    """Says that it is its own reversal, and is not."""

    @property
    @override
    def reversed(self):
        return self


@pytest.mark.usefixtures("x64")
def test_the_laws_find_a_wrong_reversal():
    _, laws = laws_of(posterior(coin_pair, X, Annealed(1, Forwards(U, V), (0.3, 1.0))))
    assert np.abs(laws.density - laws.probability).max() > 1e-2


def resampled(a):
    return Tempered(2, U, (1.0,), threshold=None).log_normalizer(coin(a).condition(X))


def backwards(a):
    given = ppl.normalize(coin_pair(a).condition(X), Annealed(1, Cycle(U, V), (1.0,)))
    return given.log_density({"u": TRUE, "v": ~TRUE})


@pytest.mark.parametrize("program", [resampled, backwards])
def test_gradients_through_regenerate_and_resampling_are_unbiased(program):
    report = ppl.testing.check_unbiased(ppl.expectation(program), (0.4,), key=KEY)
    assert report.method == "exact"


def test_gradients_of_continuous_choices_that_are_accepted_or_not():
    """Against the normal evidence, differentiated: 100,000 runs, 5 standard errors."""
    algorithm = Tempered(2, Regenerate("x"), (0.3, 1.0), threshold=None)
    evidence = ppl.expectation(lambda a: jnp.exp(algorithm.log_normalizer(seen(a))))
    slopes = jax.jit(jax.vmap(lambda k: evidence.grad(k, 0.2)))(jax.random.split(KEY, 100_000))
    truth = stats.norm.pdf(1.0, 0.2, 2**0.5) * 0.8 / 2
    assert abs(slopes.mean() - truth) < 5 * slopes.std() / len(slopes) ** 0.5 < 0.2 * truth


# --- moves of real vectors -------------------------------------------------------------------------


@ppl.gen
def skewed():
    """Its own law is what moves are to leave invariant: a support with an edge, and one that moves."""
    scale = ppl.gamma(3.0, 2.0) @ "scale"
    top = ppl.uniform(0.0, scale) @ "top"
    jax.lax.cond(top > 0.7, lambda: ppl.exponential(scale) @ "extra", lambda: 0.0)


REAL = {
    "first order": Cycle(RandomWalk(jnp.array([0.5, 1.0, 1.0])), MALA(0.2)),
    "hamiltonian": Cycle(HMC(0.4, 4, only=("top", "extra")), NUTS(0.5, doublings=4)),
}


@pytest.mark.filterwarnings("ignore:.*diverged")
@pytest.mark.parametrize("name", REAL)
def test_moves_leave_a_density_invariant(name):
    """4,000 exact draws, each moved three times, keep their law: Kolmogorov and Smirnov."""
    count = 4_000
    exact = jax.jit(jax.vmap(lambda k: skewed().simulate(k).choices))(jax.random.split(KEY, count))
    found = ppl.infer.chains(skewed(), REAL[name], key=KEY, draws=3, warmup=0, chains=count, initial=exact)
    last = jax.tree.map(lambda x: np.asarray(x[:, -1]), found.choices)
    assert np.mean(last["scale"] != exact["scale"]) > 0.9
    assert 0.5 < found.acceptance.mean() < 0.98
    share = last["top"] / last["scale"]
    made = last["top"] > 0.7
    for draws, law in (
        (last["scale"], stats.gamma(3.0, scale=0.5)),
        (share, stats.uniform()),
        ((last["extra"] * last["scale"])[made], stats.expon()),
    ):
        assert stats.kstest(draws, law.cdf).pvalue > FALSE_ALARM
    assert stats.spearmanr(last["scale"], share).pvalue > FALSE_ALARM
    assert (last["extra"][~made] == 0).all() and (last["extra"][made] > 0).all()


@ppl.gen
def sums():
    u = ppl.normal(0.0, 1.0) @ "u"
    v = ppl.normal(0.5 * u, 1.0) @ "v"
    ppl.normal(u + v, 0.5) @ "y"


EVIDENCE = stats.norm(0.0, (1.5**2 + 1.0 + 0.25) ** 0.5)
ELSEWHERE = stats.norm(0.5, 1.0)
CONTINUOUS = {
    "tempered": Tempered(2, Cycle(RandomWalk(0.7, only="u"), HMC(0.4, 3, only="v")), (0.2, 1.0)),
    "pathfinder": Pathfinder(2, paths=2, steps=6, samples=5, history=3),
}


@pytest.mark.parametrize("name", CONTINUOUS)
def test_continuous_choices_keep_the_laws(name):
    """`E[w] = p(y)` of a given `y`, and `E[q(y) / w] = 1` of one that is drawn, for another density `q`."""
    measure = ppl.marginal(sums(), ["y"], CONTINUOUS[name])

    def both(key):
        drawn = measure.simulate(key)
        y = drawn.choices["y"]
        other = jax.scipy.stats.norm.logpdf(y, ELSEWHERE.mean(), ELSEWHERE.std())
        return jnp.exp(measure.log_density({"y": 1.3}, key=key)), jnp.exp(other - drawn.log_density), y

    given, reciprocal, y = jax.jit(jax.vmap(both))(jax.random.split(KEY, 4000))
    for estimates, truth in ((given, EVIDENCE.pdf(1.3)), (reciprocal, 1.0)):
        assert abs(estimates.mean() - truth) < 5 * estimates.std() / len(estimates) ** 0.5
        assert 0 < estimates.std() < 3 * truth
    assert stats.kstest(np.asarray(y), EVIDENCE.cdf).pvalue > FALSE_ALARM


def test_temperatures_are_found_by_a_pilot_run():
    @ppl.gen
    def precise():
        x = ppl.normal(0.0, 1.0) @ "x"
        ppl.normal(x, 0.02) @ "y"

    target = precise().condition({"y": 1.5})
    move = Repeat(Cycle(RandomWalk(1.0), RandomWalk(0.05)), 2)
    found = ppl.infer.temperatures(target, move, key=KEY, particles=400)
    assert (np.diff(found) > 0).all() and found[-1] == 1.0
    assert 4 < len(found) < 12
    more = ppl.infer.temperatures(target, move, key=KEY, particles=400, share=0.8)
    assert len(more) > len(found)
    run = ppl.infer.run(target, Tempered(1000, move, found), key=KEY)
    truth = stats.norm.logpdf(1.5, 0.0, 1.0004**0.5)
    np.testing.assert_allclose(run.log_normalizer, truth, atol=0.4)  # 5 standard deviations, of 200 runs
    # One step from the prior has hardly a particle there.
    assert ppl.infer.run(target, Importance(1000), key=KEY).effective < 0.1 * run.effective


def test_particles_tell_their_tail():
    wide = ppl.gen(lambda: ppl.normal(0.0, 3.0) @ "x")
    narrow = ppl.gen(lambda: ppl.normal(0.0, 0.3) @ "x")
    good = ppl.infer.run(narrow(), Importance(2000, wide()), key=KEY)
    bad = ppl.infer.run(wide(), Importance(2000, narrow()), key=KEY)
    assert good.khat < 0.5 and bad.khat > 0.7


# --- refusals --------------------------------------------------------------------------------------


@ppl.gen
def shifted(a):
    x = ppl.normal(a, 1.0) @ "x"
    ppl.normal(x, 1.0) @ "y"


def seen(a):
    return shifted(a).condition({"y": 1.0})


@pytest.mark.parametrize(
    "algorithm",
    [
        Annealed(1, RandomWalk(0.5), (1.0,)),
        Tempered(2, Repeat(HMC(0.3, 2), 2), (1.0,)),
        Tempered(2, NUTS(0.3, doublings=2), (1.0,), threshold=None),
        Pathfinder(2, steps=2, samples=2, history=2),
    ],
    ids=["random walk", "hmc", "nuts", "pathfinder"],
)
def test_derivatives_through_moves_are_refused(algorithm):
    name = {"Annealed": "RandomWalk", "Pathfinder": "Pathfinder"}.get(type(algorithm).__name__, "HMC|NUTS")
    free = ppl.expectation(lambda a: algorithm.log_normalizer(seen(a)))
    given = ppl.expectation(lambda a: ppl.normalize(seen(a), algorithm).log_density({"x": 0.3}))
    for take in (lambda: free.grad(KEY, 0.7), lambda: jax.grad(lambda a: given.surrogate(KEY, a))(0.7)):
        with pytest.raises(ppl.UnsupportedProgram, match=rf"({name}).*shifted.*argnums"):
            take()


def test_parameters_of_moves_and_schedules_are_refused_too():
    for algorithm in (
        lambda a: Annealed(2, RandomWalk(a), 2),
        lambda a: Annealed(2, RandomWalk(0.5), jnp.array([0.5 * a, 1.0])),
        lambda a: Annealed(2, RandomWalk(0.5), 2, ppl.gen(lambda: ppl.normal(a, 1.0) @ "x")()),
    ):
        bound = ppl.expectation(lambda a, make=algorithm: make(a).log_normalizer(seen(0.0)))
        with pytest.raises(ppl.UnsupportedProgram, match="RandomWalk accepts or rejects"):
            bound.grad(KEY, 0.7)


def test_draws_of_what_is_held_fixed_train_a_guide():
    """The gradient of a wake phase is the mean of the score at draws, which carry no derivative."""

    @ppl.expectation
    def fit(mean, prior):
        draw = ppl.normalize(seen(prior), Annealed(3, RandomWalk(0.5), 2)).propose()
        return ppl.normal(mean, 1.0).log_density(draw.choices["x"])

    slope = fit.grad(KEY, 0.2, 0.0, num_samples=4000)
    assert abs(slope - (0.5 - 0.2)) < 0.1  # 3 particles are not quite at the posterior mean, one half


def test_refusals():
    run = lambda target, algorithm: ppl.infer.run(target, algorithm, key=KEY)
    target = coin(0.4).condition({"x": True})

    @ppl.gen
    def mixed():
        k = ppl.flip(0.3) @ "k"
        z = jax.lax.cond(k, lambda: ppl.normal(0.0, 1.0) @ "z", lambda: 0.0)
        ppl.normal(ppl.normal(z, 1.0) @ "x", 1.0) @ "y"

    both = mixed().condition({"y": 1.0})
    with pytest.raises(ppl.UnsupportedProgram, match=r"'k'.*discrete"):
        run(both, Tempered(2, HMC(0.1, 2), 2))
    with pytest.raises(ppl.UnsupportedProgram, match=r"HMC holds 'z'.*made in some runs only"):
        run(both, Tempered(2, HMC(0.1, 2, only="x"), 2))
    with pytest.raises(ppl.errors.UnknownAddress, match=r"RandomWalk moves 'q'.*it has 'k', 'x', 'z'"):
        run(both, Tempered(2, RandomWalk(0.1, only="q"), 2))
    with pytest.raises(ppl.errors.UnknownAddress, match="'w' is no choice"):
        run(target, Annealed(2, Regenerate("w")))
    with pytest.raises(ppl.errors.UnusedChoice, match=r"'x'.*is observed"):
        run(target, Annealed(2, Regenerate("x")))
    with pytest.raises(ppl.UnsupportedProgram, match=r"'m/x'.*estimated anew"):
        run(ppl.gen(lambda: hidden_coin(0.4) @ "m")(), Annealed(2, Regenerate("m")))
    with pytest.raises(ppl.UnsupportedProgram, match="a Marginal"):
        run(hidden_coin(0.4), Annealed(2, Regenerate("x")))
    with pytest.raises(ppl.UnsupportedProgram, match=r"proposal of Annealed.*a Normalized"):
        run(target, Annealed(2, U, proposal=ppl.normalize(target, Importance(2))))
    with pytest.raises(ppl.UnsupportedProgram, match=r"resampling=Multinomial\(\)"):
        systematic = Tempered(2, U, resampling=Systematic())
        ppl.normalize(target, systematic).log_density({"u": True}, key=KEY)
    for wrong in ((0.5, 0.4, 1.0), (0.0, 1.0), (0.5,), 0):
        with pytest.raises(ValueError, match="temperature"):
            Annealed(2, U, wrong)
    with pytest.raises(TypeError, match="takes a move"):
        Tempered(2, Importance(2))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a move of ppl"):
        Cycle(U, "v")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="at least one"):
        Regenerate()
    with pytest.raises(ppl.errors.NonFiniteObjective, match="no schedule"):
        impossible = ppl.gen(lambda: ppl.uniform(ppl.flip(0.5) @ "u", 2.0) @ "x")().condition({"x": 5.0})
        ppl.infer.temperatures(impossible, U, key=KEY, particles=4)
