"""What the tables of `docs/comparison.md` name is there: functions of three libraries, and tests.

Pyro is in an environment of its own, so that its names are not checked here.
"""

import importlib
import re
import warnings
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs" / "comparison.md").read_text()


def names(library: str) -> list[str]:
    return sorted(set(re.findall(rf"`({library}(?:\.\w+)+)`", TEXT)))


def resolve(name: str) -> Any:
    """A dotted name: attributes, and modules where there is none of that name."""
    library, *parts = name.split(".")
    found, path = importlib.import_module(library), library
    for part in parts:
        path += f".{part}"
        found = getattr(found, part) if hasattr(found, part) else importlib.import_module(path)
    return found


@pytest.mark.parametrize("library", ["ppl", "genjax", "numpyro"])
def test_names_exist(library: str) -> None:
    with warnings.catch_warnings():  # GenJAX's own dependencies warn of deprecated names
        warnings.simplefilter("ignore", DeprecationWarning)
        importlib.import_module(library)
    found = names(library)
    assert len(found) > 5
    for name in found:
        assert callable(resolve(name)), name
    with pytest.raises(ModuleNotFoundError):
        resolve(f"{library}.no_such_name")


def test_evidence_exists() -> None:
    """Each test that is named is a function of that file."""
    named = re.findall(r"`(tests/[\w/]+\.py)::(\w+)`", TEXT)
    assert len(named) > 15
    for path, test in named:
        assert f"\ndef {test}(" in (ROOT / path).read_text(), (path, test)


def test_cells_are_of_three_kinds() -> None:
    rows = [line for line in TEXT.splitlines() if line.startswith("| ") and "---" not in line]
    cells = [cell.strip() for row in rows for cell in row.strip("|").split(" | ")[1:]]
    heads = {"ppl", "GenJAX", "NumPyro", "Pyro"}
    assert len(cells) == 4 * len(rows)
    assert all(cell in heads or re.match(r"(yes|by hand|no)\b", cell) for cell in cells)
