"""Interval arithmetic against the arithmetic itself, and what it lets pass."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as npd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import ppl
from ppl.transforms.intervals import ARITHMETIC, arithmetic
from ppl.transforms.moving import Value

KEY = jax.random.key(4)
numbers = st.floats(-1e3, 1e3, width=32)


@given(name=st.sampled_from(sorted(ARITHMETIC)), ends=st.tuples(numbers, numbers), other=numbers,
       first=st.booleans(), shares=st.lists(st.floats(0, 1), min_size=1, max_size=20))  # fmt: skip
def test_images_lie_between_the_images_of_the_ends(name, ends, other, first, shares):
    """In the program's own rounding; draws lie inside, and so do their images, or at an end by rounding."""
    low, high = np.float32(min(ends)), np.float32(max(ends))
    x = np.clip(low + (high - low) * np.asarray(shares, np.float32), low, high)
    unknown = Value(bounds=(float(low), float(high)))
    constant = Value(origin=float(other))
    values = [unknown] if name == "neg" else [constant, unknown] if first else [unknown, constant]
    arrays = [x if value is unknown else np.float32(other) for value in values]
    with np.errstate(all="ignore"):
        image = ARITHMETIC[name](*arrays)
    _, (below, above) = arithmetic(name, values, np.float32)
    assert below is None or (image >= below).all()
    assert above is None or (image <= above).all()
    if name in ("add", "sub", "neg"):
        assert below is not None and above is not None


def test_numbers_are_computed_in_the_programs_precision():
    origin, _ = arithmetic("sub", [Value(origin=0.3), Value(origin=0.1)], np.float32)
    assert origin == float(np.float32(0.3) - np.float32(0.1)) != 0.3 - 0.1
    assert arithmetic("sub", [Value(origin=math.inf), Value(origin=math.inf)], np.float32)[0] is None


def brought(scale, shift=0.0):
    """A guide of `p` that a moving normal and these transforms make."""

    @ppl.gen
    def guide(loc):
        steps = [npd.transforms.SigmoidTransform(), npd.transforms.AffineTransform(shift, scale)]
        ppl.dist(npd.TransformedDistribution(npd.Normal(loc, 1.0), steps)) @ "p"

    return guide


def flat(low, high):
    @ppl.gen
    def model():
        p = ppl.uniform(low, high) @ "p"
        ppl.normal(jnp.sum(p), 1.0) @ "y"

    return model().condition({"y": 0.4})


def bound(target, guide):
    return ppl.expectation(lambda params: ppl.iwelbo(2)(target, guide(params)))


ENDS = [(0.0, 1.0), (0.1, 0.3), (-3.0, 7.7), (0.7, 1e4), (jnp.zeros(3), 2 * jnp.ones(3))]


@pytest.mark.parametrize("low, high", ENDS, ids=["unit", "thirds", "around zero", "wide", "lanes"])
@pytest.mark.parametrize("family", [ppl.guides.MeanField, ppl.guides.FullRank])
def test_a_ready_made_guide_of_a_bounded_choice_passes(family, low, high):
    """`iwelbo` exponentiates a density with two edges, which draws of the guide do not reach."""
    target = flat(low, high)
    guide = family(target)
    gradient = jax.eval_shape(bound(target, guide).grad, KEY, guide.initial(KEY))
    assert jax.tree.structure(gradient) == jax.tree.structure(guide.initial(KEY))


@pytest.mark.parametrize("scale, shift", [(1.0, 0.0), (0.5, 0.25), (-1.0, 1.0)])
def test_draws_within_the_support_pass(scale, shift):
    jax.eval_shape(bound(flat(0.0, 1.0), brought(scale, shift)).grad, KEY, 0.3)


@pytest.mark.parametrize("scale, shift", [(1.5, 0.0), (1.0, 0.1), (1.0, -0.1), (-1.0, 0.5)])
def test_draws_that_leave_the_support_are_refused(scale, shift):
    with pytest.raises(ppl.DiscontinuousReparameterization, match=r"'p'.*edge of a support"):
        bound(flat(0.0, 1.0), brought(scale, shift)).grad(KEY, 0.3)


def test_a_moving_end_is_refused():
    with pytest.raises(ppl.DiscontinuousReparameterization, match="'p'"):
        ppl.expectation(lambda t: ppl.iwelbo(2)(flat(0.0, 1.0), brought(t)(0.3))).grad(KEY, 1.0)


def test_what_passes_is_unbiased():
    """The mean weight is the evidence whatever the guide: its derivative is zero (false alarm 6e-7)."""
    weight = ppl.expectation(lambda loc: jnp.exp(ppl.elbo(flat(0.0, 1.0), brought(1.0)(loc))))
    slopes = jax.jit(jax.vmap(lambda key: weight.grad(key, 0.3)))(jax.random.split(KEY, 20_000))
    assert slopes.std() > 0.01
    assert abs(slopes.mean()) < 5 * slopes.std() / len(slopes) ** 0.5
