"""Every error that `ppl` raises, one class for each kind of mistake.

A message names what was being done, the address and the user's source line, what was expected and
what was found, and the way out.
"""

from typing import Any


class PPLError(Exception):
    """Base class of all errors raised by `ppl`."""


class UnsupportedProgram(PPLError):
    """The program holds a construct for which no sound rule exists."""


class DiscontinuousReparameterization(UnsupportedProgram):
    """A value that moves with the parameters reaches a jump, where its pathwise gradient is biased."""


class EstimatorNotAdmitted(UnsupportedProgram):
    """The chosen gradient estimator does not exist for this family."""


class SupportMismatch(UnsupportedProgram):
    """A guide proposes values that its target never has, so that the objective is minus infinity."""


class ChoiceOutsideProgram(PPLError):
    """A random choice was made where nothing says what it means."""


class DuplicateAddress(PPLError):
    """One address is used by two choices of the same program."""


class UnknownAddress(PPLError):
    """An address or pattern names no choice of the program."""


class MissingChoice(PPLError):
    """A choice of the program is missing from the choices that are scored."""


class UnusedChoice(PPLError):
    """A given choice is not a choice of the program."""


class OverlappingChoices(PPLError):
    """Two sets of choices that were to be merged both hold the same address."""


class ChoiceShapeError(PPLError):
    """A given choice has another shape than the one the program draws."""


class ChoiceDtypeError(PPLError):
    """A given choice has a dtype that does not fit the family."""


class ParameterError(PPLError):
    """A parameter of a family lies outside its domain, or has a shape that does not fit."""


class NonFiniteObjective(PPLError):
    """Training met a value or a gradient that is not finite.

    Attributes:
        step: the number of the step.
        key: replays it: `objective.value_and_grad(error.key, error.params, error.batch)`.
        params: the parameters before the step.
        batch: its batch, or `None` without data.
        result: the `ppl.FitResult` of the run until then.
    """

    step: int
    key: Any
    params: Any
    batch: Any
    result: Any
