"""What every test of a benchmark shares."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest

BENCHMARKS, EXAMPLES = (Path(__file__).parents[2] / name for name in ("benchmarks", "examples"))


@contextmanager
def _scripts(*modules: str, prefix: str = "_") -> Iterator[SimpleNamespace]:
    """Benchmarks' scripts as modules, by their names without the prefix.

    They find their neighbors as they do when they are run. Afterwards all are forgotten, and modules of the
    same names, as examples have them, are back.
    """
    own = {path.stem for path in BENCHMARKS.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in own if name in sys.modules}
    before = set(sys.modules)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(BENCHMARKS)
        with warnings.catch_warnings():  # importing GenJAX's own dependencies warns of deprecated names
            warnings.simplefilter("ignore", DeprecationWarning)
            importlib.import_module("genjax")
        yield SimpleNamespace(
            **{name.removeprefix(prefix): importlib.import_module(name) for name in modules}
        )
    for name in set(sys.modules) - before:
        if Path(getattr(sys.modules[name], "__file__", None) or "").parent in (BENCHMARKS, EXAMPLES):
            del sys.modules[name]
    sys.modules.update(others)


@pytest.fixture(scope="session")
def scripts() -> Callable[..., AbstractContextManager[SimpleNamespace]]:
    """Imports scripts of `benchmarks/` for as long as a test module needs them."""
    return _scripts
