"""Random programs with exact answers, as a strategy for Hypothesis (which is needed to import this)."""

from ppl.testing.programs.program import Program as Program
from ppl.testing.programs.strategy import programs as programs
from ppl.testing.programs.verify import verify as verify
