"""A random program: its source, the program itself, and what it comes to."""

from __future__ import annotations

import linecache
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import ppl
from ppl import estimators
from ppl.testing.programs.oracle import Answer, answer
from ppl.testing.programs.syntax import Block, source

_NUMBER = iter(range(10**9))


@dataclass(frozen=True)
class Program:
    """A program of two parameters, which prints as its source.

    Attributes:
        block: its syntax.
        theta: the parameters at which it is looked at.
        error: the error that it must raise when its gradient is asked for, if it is not allowed.
    """

    block: Block
    theta: tuple[float, float] = (0.3, -0.4)
    error: type[Exception] | None = None

    def __repr__(self) -> str:
        comment = f"  # must raise {self.error.__name__}" if self.error else ""
        return f"\n{self.source}{comment}\n# at t = {list(self.theta)}\n"

    @property
    def source(self) -> str:
        """The program as Python source, which needs `jax`, `jnp`, `ppl` and the estimators."""
        return source(self.block)

    @cached_property
    def function(self) -> Any:
        """The program: its source, executed."""
        name = f"<program {next(_NUMBER)}>"
        # So that messages can show its lines.
        linecache.cache[name] = (len(self.source), None, self.source.splitlines(True), name)
        names: dict[str, Any] = {"jax": jax, "jnp": jnp, "ppl": ppl} | vars(estimators)
        exec(compile(self.source, name, "exec"), names)
        return names["program"]

    @property
    def expectation(self) -> ppl.Expectation:
        """The expectation of the program."""
        return ppl.expectation(self.function)

    @property
    def generative(self) -> Any:
        """The program as a generative function, whose return value is a number."""
        return ppl.gen(self.function)

    def answer(self, directions: Any = ((1.0, 0.0), (0.0, 1.0)), order: int = 1) -> Answer:
        """Its expected value and its derivatives, up to `order`, along directions: from its syntax alone."""
        return answer(self.block, np.array(self.theta), np.asarray(directions, float), order)
