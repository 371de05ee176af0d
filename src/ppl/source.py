"""Which line of the user's code something came from."""

import os
import sys
from collections.abc import Iterable
from typing import Any

_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep


def _library_roots() -> tuple[str, ...]:
    import jax
    import numpyro

    roots = [os.path.dirname(os.path.abspath(module.__file__ or "")) + os.sep for module in (jax, numpyro)]
    # `functools` and `contextlib` stand between a library's own functions.
    standard = [os.path.dirname(os.__file__) + os.sep + name for name in ("functools.py", "contextlib.py")]
    return (_HERE, *roots, *standard)


_ROOTS = _library_roots()


def is_user(file: str) -> bool:
    """Whether a file is the user's: neither of a library below, nor of Python itself."""
    return not file.startswith(_ROOTS) and not file.startswith("<frozen")


def _line(file: str, line: int, function: str) -> str:
    return f"{os.path.relpath(file) if file.startswith(os.getcwd() + os.sep) else file}:{line} ({function})"


def user_line() -> str:
    """`file:line (function)` of the innermost frame that is neither `ppl`, JAX nor NumPyro."""
    frame = sys._getframe(1)
    while frame is not None:
        if is_user(frame.f_code.co_filename):
            return _line(frame.f_code.co_filename, frame.f_lineno, frame.f_code.co_qualname)
        frame = frame.f_back
    return "<unknown line>"


def frames(equation: Any) -> Iterable[Any]:
    """The frames, innermost first, of the code that made a jaxpr equation."""
    traceback = getattr(equation.source_info, "traceback", None)
    return () if traceback is None else traceback.frames


def equation_line(equation: Any) -> str:
    """The user's line that made a jaxpr equation."""
    for frame in frames(equation):
        if is_user(frame.file_name):
            return _line(frame.file_name, frame.line_num, frame.function_name)
    return "<unknown line>"
