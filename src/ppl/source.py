"""Which line of the user's code something came from."""

import os
import sys
from collections.abc import Iterable
from typing import Any, NamedTuple

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


class Function(NamedTuple):
    """A function of a library, by its file and name."""

    file: str
    name: str


def library_function(jaxpr: Any) -> Function | None:
    """The function that a nested jaxpr was traced from, if it is a library's."""
    debug = getattr(getattr(jaxpr, "jaxpr", jaxpr), "debug_info", None)
    file, name = getattr(debug, "func_filename", None), getattr(debug, "func_name", None)
    return None if not file or not name or is_user(file) else Function(file, name)


def frames(equation: Any, inside: Function | None = None) -> Iterable[Any]:
    """The frames, innermost first, of the code that made a jaxpr equation.

    `inside` is the library's function that the equation belongs to. JAX traces such a function once for all
    its callers, and if that happens in a derivative rule, the frames are those of what was differentiated
    then: of a caller that has nothing to do with this one. So frames count only up to the function itself.
    """
    traceback = getattr(equation.source_info, "traceback", None)
    found = () if traceback is None else traceback.frames
    if inside is None:
        return found
    for number, frame in enumerate(found):
        if (
            frame.file_name == inside.file
            and frame.function_name.split(".")[-1] == inside.name.split(".")[-1]
        ):
            return found[: number + 1]
    return ()


def equation_line(equation: Any, inside: Function | None = None) -> str:
    """The user's line that made a jaxpr equation."""
    for frame in frames(equation, inside):
        if is_user(frame.file_name):
            return _line(frame.file_name, frame.line_num, frame.function_name)
    return "<unknown line>"
