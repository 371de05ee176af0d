"""Whether the derived estimator of a random program has the mean that its syntax says."""

from __future__ import annotations

import jax
import numpy as np

from ppl.testing.compared import estimator, labels, point
from ppl.testing.exact import exactly
from ppl.testing.programs.program import Program
from ppl.testing.report import BiasReport
from ppl.testing.truth import Truth


def verify(program: Program, key: jax.Array, order: int = 1) -> BiasReport:
    """The report of an exact check of a program against its own answer.

    Raises:
        AssertionError: a program that is not allowed was not refused, or by another error.
        NotIntegrable: its noise cannot be integrated over.
    """
    with jax.enable_x64(True):
        if program.error is not None:
            try:
                jax.make_jaxpr(program.expectation.grad)(key, np.asarray(program.theta))
            except program.error:
                return BiasReport((), "exact", "the error that it must raise", 0, 0.0, 0.0)
            raise AssertionError(f"{program!r} was not refused by {program.error.__name__}")
        at = point(program.expectation, (np.asarray(program.theta),), 0, 1, jax.random.fold_in(key, 1))
        found = program.answer(at.directions, order)
        mean = np.concatenate([[found.value], found.first, found.second])
        error = np.concatenate(
            [np.full(1 + len(found.first), 1e-9), np.full(len(mean) - 1 - len(found.first), 1e-7)]
        )
        truth = Truth(mean, error * np.maximum(1, np.abs(mean)), "the sum over everything that can happen")
        assert len(labels(at, order)) == len(mean)
        return exactly(at, estimator(at, order, 1), truth, order, key, [])
