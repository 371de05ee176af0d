"""Which code is known, or promised, to be continuous although it compares and selects.

A jaxpr does not say that `where(x > 0, x, expm1(x))` has no jump at zero. Two things do: the
traceback of the equation, where it lies inside a function of a library that is known to be
continuous; and the user, with `continuous`.

What is known of the libraries is data, in `CONTINUOUS`: the activations of `jax.nn` (all but
`one_hot`), the functions of `jax.numpy`, `jax.scipy` and `jax.lax` that are continuous although they
compare inside, the densities and bijections of `numpyro.distributions`, and the log densities of
`ppl` itself. Only frames between the equation and the innermost line of the user are looked at. A
library's function that is `jit`ted is traced once for all callers, so its equations may show the line of
another one: there frames count up to that function, and what holds for the call is handed down.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax.core import Tracer
from jax.extend.core import primitives

from ppl.source import Function, frames, is_user

# The name under which vouched code appears in a jaxpr. No Python function has it by accident: a
# name with a dot cannot be written in a `def`.
MARK = "ppl.continuous"


class Functions(NamedTuple):
    """Functions of one file, or folder, of a library: some of them, or all of them but a few.

    `density` says that they are log densities, whose minus infinity may stand for an edge of a support.
    """

    path: str
    only: frozenset[str] = frozenset()
    but: frozenset[str] = frozenset()
    density: bool = False

    def hold(self, file: str, function: str) -> bool:
        """Whether a frame lies in one of these functions (or in one defined inside it)."""
        name = function.split(".")[0]
        return self.path in file and name not in self.but and (not self.only or name in self.only)


def _names(text: str) -> frozenset[str]:
    return frozenset(text.split())


CONTINUOUS: tuple[Functions, ...] = (
    Functions("/jax/_src/nn/functions.py", but=_names("one_hot _one_hot")),
    Functions("/jax/_src/ops/special.py"),
    Functions("/jax/_src/lax/special.py"),
    Functions("/jax/_src/lax/other.py", only=_names("logaddexp logaddexp2")),
    Functions("/jax/_src/scipy/special.py", but=_names("gammasgn bernoulli")),
    Functions("/jax/_src/scipy/stats/", only=_names("logpdf pdf logcdf cdf logsf sf ppf isf"), density=True),
    Functions("/jax/_src/scipy/linalg.py", only=_names(
        "solve solve_triangular inv det cho_solve lu_solve expm expm_frechet sqrtm")),
    Functions("/jax/_src/numpy/ufuncs.py", only=_names(
        "logaddexp logaddexp2 sinc hypot absolute abs fabs maximum minimum power _power "
        "float_power sqrt cbrt")),
    Functions("/jax/_src/numpy/lax_numpy.py", only=_names(
        "clip interp _interp nan_to_num fmin fmax i0 i0_impl i1_impl trapezoid cov corrcoef gradient diff")),
    Functions("/jax/_src/numpy/reductions.py", only=_names(
        "max min amax amin ptp mean average var std median quantile percentile _quantile nanmax nanmin "
        "nansum nanprod nanmean nanvar nanstd nanmedian nanquantile nanpercentile nancumsum nancumprod")),
    Functions("/jax/_src/numpy/linalg.py", only=_names(
        "norm vector_norm matrix_norm solve inv det slogdet _det _det_2x2 _det_3x3 _slogdet_1x1 _slogdet_2x2 "
        "_slogdet_small _slogdet_lu _cofactor_solve tensorsolve tensorinv svdvals eigvalsh")),
    Functions("/numpyro/distributions/", density=True),
    Functions("/ppl/distributions/density.py", density=True),
    # The two network libraries that write an activation of their own.
    Functions("/equinox/nn/_activations.py"),
    Functions("/flax/linen/activation.py"),
    Functions("/flax/nnx/nn/activations.py"),
)  # fmt: skip

# A check of a support answers yes or no. Called from a density it only guards; called by the user it
# is a comparison like any other.
_CHECKS = "/numpyro/distributions/constraints.py"
_DENSITY = "/ppl/distributions/density.py"
_MIXTURES = "/numpyro/distributions/mixtures.py"

# A sampler takes its key as fixed and compares: what it returns jumps with its parameters.
_SAMPLERS = _names("sample rsample sample_with_intermediates")

CONTINUOUS_CODE, DENSITY_CODE = "continuous", "density"


def _inner_frames(equation: Any, inside: Function | None) -> tuple[list[tuple[str, str]], bool]:
    """`(file, function)` of each frame up to the user's innermost one; whether there is one."""
    found = []
    for frame in frames(equation, inside):
        found.append((frame.file_name.replace("\\", "/"), frame.function_name))
        if is_user(frame.file_name):
            return found, True
    if inside is not None and not found:  # nothing is known but where the equation is
        found.append((inside.file.replace("\\", "/"), inside.name))
    return found, False


def library_vouches(equation: Any, *, inside: Function | None = None, inherited: str = "") -> str:
    """Whether an equation lies in a library function known to be continuous, or in a log density.

    `inherited` is the answer for the call that holds the equation; it stands unless the traceback of
    the equation itself leads to the user. `inside` is the library's function that was called, if it is one.
    """
    inner, to_user = _inner_frames(equation, inside)
    files = [file for file, _ in inner]
    if any("/numpyro/" in file and _SAMPLERS & set(function.split(".")) for file, function in inner):
        return ""
    for file, function in inner:
        if file.endswith(_CHECKS):
            continue
        known = next((entry for entry in CONTINUOUS if entry.hold(file, function)), None)
        if known is None:
            continue
        # `ppl` asks NumPyro only about points of the support, so NumPyro's own check never answers no;
        # except that of a component of a mixture.
        guarded = not file.endswith(_DENSITY) and any(f.endswith(_DENSITY) for f in files)
        mixed = any(f.endswith(_MIXTURES) for f in files)
        return DENSITY_CODE if known.density and (mixed or not guarded) else CONTINUOUS_CODE
    return "" if to_user else inherited


def support_check(equation: Any, inside: Function | None = None) -> str:
    """The class of the NumPyro constraint whose membership test an equation is part of, or nothing."""
    for file, function in _inner_frames(equation, inside)[0]:
        if file.endswith(_CHECKS):
            return function.split(".")[0]
        if file.endswith("/ppl/distributions/support.py") and function == "_on_simplex":
            return "_Simplex"  # NumPyro's, with another tolerance
    return ""


def user_vouches(equation: Any) -> bool:
    """Whether an equation is a call of code inside `continuous`, transformed by `vmap` or not."""
    return equation.primitive is primitives.jit_p and MARK in str(equation.params["name"])


def continuous[**Arguments, Result](function: Callable[Arguments, Result]) -> Callable[Arguments, Result]:
    r"""The same function, vouched for by the user to be continuous.

    A pathwise derivative is biased where a value that moves with the parameters crosses a jump,
    :math:`\nabla_\theta E[1\{x_\theta > 0\}] \ne E[\nabla_\theta 1\{x_\theta > 0\}] = 0`, so a
    comparison of a reparameterised choice is refused. Many functions compare and yet have no jump,
    since their pieces meet: ``where(x > 0, x, 0.1 * x)``. `continuous` says so of everything that
    `function` computes: comparisons, roundings and casts inside it are taken as parts of a
    continuous whole. Nothing is computed differently. A jump made before stays one, and choices
    made inside are still choices.

    The promise is the user's: a function that does jump gets a silently biased gradient.

    Args:
        function: any JAX function; arguments and results may hold anything, arrays or not.

    Returns:
        A function of the same arguments with the same result; works under every transformation.

    Example:
        >>> import jax, jax.numpy as jnp
        >>> from ppl.transforms.vouched import continuous
        >>> leaky = continuous(lambda x: jnp.where(x > 0, x, 0.1 * x))
        >>> float(leaky(-2.0))
        -0.2...
        >>> float(jax.grad(leaky)(-2.0))
        0.1...
    """

    @functools.wraps(function)
    def vouched(*args: Arguments.args, **kwargs: Arguments.kwargs) -> Result:
        # Outside staging there is no jaxpr to mark, and compiling at each call would only be slow.
        if not isinstance(jnp.zeros(()), Tracer):
            return function(*args, **kwargs)
        rest: list[Any] = []

        def marked() -> list[jax.Array]:
            leaves, tree = jax.tree.flatten(function(*args, **kwargs))
            arrays = [isinstance(leaf, jax.Array) for leaf in leaves]
            rest.append((tree, [None if a else leaf for a, leaf in zip(arrays, leaves, strict=True)], arrays))
            return [leaf for a, leaf in zip(arrays, leaves, strict=True) if a]

        marked.__name__ = marked.__qualname__ = MARK
        found = iter(jax.jit(marked)())
        tree, leaves, arrays = rest[-1]
        return jax.tree.unflatten(
            tree, [next(found) if a else leaf for a, leaf in zip(arrays, leaves, strict=True)]
        )

    return vouched
