"""At least 300 random programs: each derived estimator has exactly the mean that the syntax says."""

from __future__ import annotations

import jax
import numpy as np
import pytest
from hypothesis import HealthCheck, Phase, given, reject, seed, settings

import ppl
from ppl.estimators import Reinforce
from ppl.testing import NotIntegrable
from ppl.testing.programs import Program, programs, verify
from ppl.testing.programs.syntax import Block, Draw, Name, Number, Parameter, Where

KEY = jax.random.key(20250614)
BLOCKS, EACH = 12, 25


@pytest.mark.parametrize("block", range(BLOCKS))
def test_random_programs_are_unbiased(block: int) -> None:
    """300 programs, no two of a block alike; one whose noise cannot be integrated over is replaced."""
    done: set[Program] = set()

    @seed(1000 + block)
    @settings(
        max_examples=EACH, deadline=None, database=None, phases=[Phase.generate, Phase.shrink],
        suppress_health_check=list(HealthCheck), derandomize=False,
    )  # fmt: skip
    @given(programs())
    def run(program: Program) -> None:
        if program in done:  # Hypothesis varies what it has, and returns to it
            reject()
        try:
            report = verify(program, KEY, order=1 + (block == 0))
        except NotIntegrable:
            reject()
        assert report.verdict == "unbiased", f"{program}\n{report}"
        done.add(program)

    run()
    assert len(done) >= EACH


def test_the_answer_is_a_closed_form() -> None:
    """Of a program whose answer is known, and the syntax prints it."""
    block = Block(
        (Draw("x", "normal", (Parameter(0), Number(0.0)), "Reinforce()"),),
        Where("x", 0.5, Number(2.0), Name("x")),
    )
    program = Program(block)
    assert 'x = 1.0 * (ppl.normal(t[0], jnp.exp(0.3 * jnp.tanh(0.0))).using(Reinforce()) @ "x")' in repr(
        program
    )
    from scipy import stats

    above, density = stats.norm.sf(0.5 - 0.3), stats.norm.pdf(0.5 - 0.3)
    found = program.answer()
    np.testing.assert_allclose(found.value, 2 * above + 0.3 * (1 - above) - density, rtol=1e-9)
    np.testing.assert_allclose(
        found.first, [2 * density + 1 - above - 0.3 * density - 0.2 * density, 0], atol=1e-8
    )


def test_a_broken_estimator_shrinks_to_a_small_program(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Reinforce.contribute

    def halved(self, distribution, noise, order):
        made = right(self, distribution, noise, order)
        return made._replace(score=made.score / 2)

    monkeypatch.setattr(Reinforce, "contribute", halved)
    failing: list[Program] = []

    @seed(7)
    @settings(max_examples=40, deadline=None, database=None, suppress_health_check=list(HealthCheck))
    @given(programs(illegal=0.0))
    def run(program: Program) -> None:
        try:
            report = verify(program, KEY)
        except NotIntegrable:
            return
        if report.verdict == "biased":
            failing.append(program)
            raise AssertionError

    with pytest.raises(AssertionError):
        run()
    smallest = min(failing, key=lambda program: len(program.source))
    assert "Reinforce" in smallest.source and len(smallest.source.splitlines()) <= 6, smallest


def test_a_program_that_is_wrongly_allowed_is_found() -> None:
    program = Program(Block((), Parameter(0)), error=ppl.errors.DuplicateAddress)
    with pytest.raises(AssertionError, match="was not refused by DuplicateAddress"):
        verify(program, KEY)
