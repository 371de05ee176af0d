"""The exact checker catches every mutant, and no program of the library as it is."""

from __future__ import annotations

import pytest

from . import battery
from .mutants import MUTANTS, Mutant

MOST = 300
"""Programs that a mutant is shown."""


def first_catch(most: int = MOST) -> tuple[str, int] | None:
    """What is found biased first, and after how many programs."""
    for shown, name in enumerate(battery.FIXED, 1):
        if battery.check_fixed(name, method="exact").verdict == "biased":
            return name, shown
    for shown, program in enumerate(battery.random_programs(most), 1 + len(battery.FIXED)):
        report = battery.check_random(program)
        if report is not None and report.verdict == "biased":
            return f"random program {shown - len(battery.FIXED)}", shown
    return None


def test_there_are_as_many_mutants_as_are_promised() -> None:
    assert len(MUTANTS) == 24


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_a_mutant_is_caught(mutant: Mutant) -> None:
    with mutant.make():
        caught = first_catch()
    print(f"{mutant.name}: {caught}")
    assert caught is not None


@pytest.mark.parametrize("name", battery.FIXED)
def test_the_fixed_programs_are_unbiased(name: str) -> None:
    assert battery.check_fixed(name, method="exact", order=2).verdict == "unbiased"
