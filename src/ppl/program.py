"""Generative functions: programs that make random choices at addresses."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from typing import Any, override

import jax

from ppl.address import Address, canonical
from ppl.choices import Choices, merge
from ppl.choose import Using, layered
from ppl.compiled import compiled
from ppl.edited import Redrawn, redrawn, regenerate, update
from ppl.errors import UnsupportedProgram
from ppl.given import below, prepared
from ppl.joint import needs_key
from ppl.measure import Measure
from ppl.noise import check_key
from ppl.site import Site
from ppl.trace import Trace
from ppl.transforms.interpret import walk
from ppl.transforms.occurrences import choice_equations
from ppl.transforms.one_choice import Rebind
from ppl.transforms.position import Here, start
from ppl.transforms.run import Nest, Run
from ppl.transforms.stage import Staged, check_recordable, split, stage
from ppl.transforms.trace_axes import to_trace
from ppl.undifferentiated import DRAWS, fixed, undifferentiated

_OF_MEASURES = ("propose", "log_density", "simulate", "generate", "using", "condition")


class GenerativeFunction:
    """What `@ppl.gen` makes: called with arguments, it gives a measure."""

    def __init__(self, function: Callable[..., Any]) -> None:
        self.function = function
        functools.update_wrapper(self, function)

    def __call__(self, *args: Any, **kwargs: Any) -> Program:
        """The measure of the function applied to these arguments."""
        return Program(self.function, args, kwargs)

    def __get__(self, instance: Any, owner: type | None = None) -> Any:
        # A decorated method binds like any other.
        return self if instance is None else functools.partial(self, instance)

    def __repr__(self) -> str:
        return f"<generative function {getattr(self.function, '__qualname__', self.function)}>"

    def __getattr__(self, name: str) -> Any:
        if name in _OF_MEASURES:
            raise AttributeError(
                f"{self!r} has no `{name}` before it is applied to arguments: write "
                f"{getattr(self.function, '__name__', 'program')}(...).{name}, or pass "
                f"{getattr(self.function, '__name__', 'program')}(...) where a measure is wanted."
            )
        raise AttributeError(f"{type(self).__name__!r} object has no attribute {name!r}")


def gen(function: Callable[..., Any]) -> GenerativeFunction:
    """Make a generative function of a Python function that makes random choices.

    Inside, `family(...) @ "address"` is a random choice and `submodel(...) @ "address"` a nested
    program. Everything else is plain JAX: `jax.vmap` makes independent copies of a choice, `jax.lax.scan`
    a chain of them, `jax.lax.cond` and `switch` choose between them. Arrays and Python floats among the
    arguments are traced; integers, Booleans, strings and functions stay what they are.

    Example:
        >>> import jax, ppl
        >>> @ppl.gen
        ... def coin():
        ...     bias = ppl.beta(2.0, 2.0) @ "bias"
        ...     return ppl.bernoulli(probs=bias) @ "heads"
        >>> sorted(coin().simulate(jax.random.key(0)).choices)
        ['bias', 'heads']
    """
    return GenerativeFunction(function)


class Program(Measure):
    """A generative function applied to its arguments."""

    def __init__(
        self, function: Callable[..., Any], args: tuple[Any, ...], kwargs: dict[str, Any],
        layers: tuple[Using, ...] = (),
    ) -> None:  # fmt: skip
        self.function, self.args, self.kwargs, self.layers = function, args, kwargs, layers

    def __repr__(self) -> str:
        return f"{getattr(self.function, '__name__', 'program')}(...)"

    def stage(self) -> Staged:
        """The program as a jaxpr in which every random choice is one equation."""
        staged = check_recordable(stage(self.function, split((self.args, self.kwargs), floats=True)))
        for layer in self.layers:
            layer.check([equation.params["site"] for equation in choice_equations(staged.jaxpr)])
        return staged

    @override
    def __matmul__(self, address: str | tuple[str, ...]) -> Any:
        staged = self.stage()
        nest = Nest(self._bind(canonical(address), True))
        return staged.returned(walk(staged.jaxpr, staged.arrays, nest, start()).outputs)

    @override
    def propose(self) -> Trace:
        staged = self.stage()
        return self._trace(staged, Run(self._bind((), False)), start())[0]

    @override
    def propose_given(
        self, observed: Mapping[Any, Any], weighed: Iterable[str | Address] | None = None
    ) -> tuple[Trace, jax.Array]:
        staged = self.stage()
        feed = prepared(staged, observed, complete=False)
        counted = None if weighed is None else below(staged, weighed)
        return self._trace(staged, Run(self._bind((), False), weighed=counted), start(feed=feed))

    @override
    def log_density(self, choices: Mapping[Any, Any], *, key: jax.Array | None = None) -> jax.Array:
        if key is not None:
            return compiled(_log_density, self, Choices(choices), check_key(key))
        with needs_key(self):
            return compiled(_log_density, self, Choices(choices))

    @override
    def simulate(self, key: jax.Array) -> Trace:
        return compiled(_simulate, self, check_key(key))

    @override
    def generate(self, key: jax.Array, observed: Mapping[Any, Any]) -> tuple[Trace, jax.Array]:
        return compiled(_generate, self, check_key(key), Choices(observed))

    @override
    def update(self, key: jax.Array, trace: Trace, changed: Mapping[Any, Any]) -> tuple[Trace, jax.Array]:
        return compiled(update, self, self._before(trace), check_key(key), trace, Choices(changed))

    @override
    def regenerate(
        self, key: jax.Array, trace: Trace, addresses: str | Iterable[str | Address]
    ) -> tuple[Trace, jax.Array]:
        return self.regenerate_given(key, trace, addresses, Choices())

    def regenerate_given(
        self, key: jax.Array, trace: Trace, addresses: str | Iterable[str | Address], observed: Choices
    ) -> tuple[Trace, jax.Array]:
        """`regenerate` where `observed` stays as it is, also in a branch that is newly taken."""
        wanted = (addresses,) if isinstance(addresses, str) else tuple(addresses)
        return compiled(regenerate, self, self._before(trace), check_key(key), trace, wanted, observed)

    def redrawn(self, observed: Choices, choices: Choices, addresses: tuple[str | Address, ...]) -> Redrawn:
        """Inside a program: `choices`, those at some addresses drawn anew; see `ppl.edited.redrawn`."""
        return redrawn(self, observed, choices, addresses, self._bind((), False))

    def _before(self, trace: Trace) -> Program:
        """The program that a trace is of."""
        return Program(self.function, trace.args, trace.kwargs, self.layers)

    @override
    def condition(self, observed: Mapping[Any, Any]) -> Conditioned:
        return Conditioned(self, Choices(observed))

    @override
    def using(self, estimators: Any) -> Program:
        return Program(self.function, self.args, self.kwargs, (*self.layers, Using(estimators)))

    def chosen(self, site: Site, distribution: Any) -> Any:
        """The estimator that `using` gives a choice; `None` if it keeps its own."""
        chosen = None
        for layer in self.layers:
            chosen = layer(site, distribution) or chosen
        return chosen

    def _bind(self, prefix: Address, recorded: bool) -> Rebind:
        return Rebind(prefix, recorded, layered(self.layers))

    def _trace(self, staged: Staged, run: Run, here: Here) -> tuple[Trace, jax.Array]:
        result = walk(staged.jaxpr, staged.arrays, run, here)
        choices = {a: to_trace(staged.choices[a][0], value) for a, value in result.records.items()}
        retval = staged.returned(result.outputs)
        trace = Trace(Choices(choices), result.totals["log_density"], retval, self.args, self.kwargs)
        return trace, result.totals["weight"]


def _log_density(program: Program, choices: Choices, key: jax.Array | None = None) -> jax.Array:
    staged = program.stage()
    feed = prepared(staged, choices, complete=True)
    run = Run(record=False, hidden=program._bind((), False) if key is None else None)
    return walk(staged.jaxpr, staged.arrays, run, start(key, feed=feed)).totals["log_density"]


def _simulate(program: Program, key: jax.Array) -> Trace:
    staged = fixed(program.stage(), DRAWS)
    return program._trace(staged, Run(), start(key, jaxpr=staged.jaxpr))[0]


def _generate(program: Program, key: jax.Array, observed: Choices) -> tuple[Trace, jax.Array]:
    staged = fixed(program.stage(), DRAWS)
    feed = prepared(staged, undifferentiated(observed, DRAWS), complete=False)
    return program._trace(staged, Run(), start(key, feed=feed, jaxpr=staged.jaxpr))


class Conditioned(Measure):
    """A program with some choices given: the unnormalized measure over the rest."""

    def __init__(self, program: Measure, observed: Choices) -> None:
        self.program, self.observed = program, observed

    def __repr__(self) -> str:
        return f"{self.program!r}.condition({{{', '.join(map(repr, self.observed))}}})"

    @override
    def __matmul__(self, address: str | tuple[str, ...]) -> Any:
        raise self._unnormalized("drawn")

    @override
    def propose(self) -> Trace:
        raise self._unnormalized("proposed from")

    @override
    def simulate(self, key: jax.Array) -> Trace:
        raise self._unnormalized("simulated")

    def _unnormalized(self, what: str) -> UnsupportedProgram:
        return UnsupportedProgram(
            f"{self!r} is not normalized and cannot be {what}. Draw weighted traces by `generate`, or fit a "
            "guide to it."
        )

    @override
    def propose_given(
        self, observed: Mapping[Any, Any], weighed: Iterable[str | Address] | None = None
    ) -> tuple[Trace, jax.Array]:
        given = [address for address, _ in self.observed.leaves()]
        counted = given if weighed is None else [*given, *weighed]
        return self.program.propose_given(merge(self.observed, observed), counted)

    @override
    def update(self, key: jax.Array, trace: Trace, changed: Mapping[Any, Any]) -> tuple[Trace, jax.Array]:
        return self.program.update(key, trace, merge(self.observed, changed))

    @override
    def regenerate(
        self, key: jax.Array, trace: Trace, addresses: str | Iterable[str | Address]
    ) -> tuple[Trace, jax.Array]:
        if isinstance(self.program, Program):
            return self.program.regenerate_given(key, trace, addresses, self.observed)
        return self.program.regenerate(key, trace, addresses)

    @override
    def log_density(self, choices: Mapping[Any, Any], *, key: jax.Array | None = None) -> jax.Array:
        return self.program.log_density(merge(self.observed, choices), key=key)

    @override
    def generate(self, key: jax.Array, observed: Mapping[Any, Any] | None = None) -> tuple[Trace, jax.Array]:
        return self.program.generate(key, merge(self.observed, observed or {}))

    @override
    def condition(self, observed: Mapping[Any, Any]) -> Conditioned:
        return Conditioned(self.program, merge(self.observed, observed))

    @override
    def using(self, estimators: Any) -> Conditioned:
        return Conditioned(self.program.using(estimators), self.observed)


jax.tree_util.register_pytree_node(
    Program,
    lambda p: ((p.args, p.kwargs, p.layers), p.function),
    lambda function, children: Program(function, *children),
)
jax.tree_util.register_pytree_node(
    Conditioned,
    lambda c: ((c.program, c.observed), None),
    lambda _, children: Conditioned(*children),
)
