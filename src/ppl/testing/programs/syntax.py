"""The syntax of random programs: small dataclasses that print as Python source.

A program is a function of two parameters `t`. A statement binds a name: a random choice, an expression, or a
control flow of JAX around a block of further statements. Names of continuous choices are compared with
constants only, so that the places where a program jumps do not move with the parameters.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, is_dataclass
from typing import Any


@dataclass(frozen=True)
class Number:
    """A constant."""

    value: float

    def source(self) -> str:
        """As Python writes it."""
        return repr(self.value)


@dataclass(frozen=True)
class Parameter:
    """An entry of `t`."""

    index: int

    def source(self) -> str:
        """As Python writes it."""
        return f"t[{self.index}]"


@dataclass(frozen=True)
class Name:
    """A variable."""

    name: str

    def source(self) -> str:
        """As Python writes it."""
        return self.name


@dataclass(frozen=True)
class Apply:
    """An operation; `OPERATIONS` says how it is written."""

    operation: str
    operands: tuple[Expression, ...]

    def source(self) -> str:
        """As Python writes it."""
        return OPERATIONS[self.operation].format(*(x.source() for x in self.operands))


@dataclass(frozen=True)
class Where:
    """One value where a choice is above a constant, another where it is not."""

    name: str
    above: float
    yes: Expression
    no: Expression

    def source(self) -> str:
        """As Python writes it."""
        return f"jnp.where({self.name} > {self.above!r}, {self.yes.source()}, {self.no.source()})"


Expression = Number | Parameter | Name | Apply | Where

OPERATIONS = {
    "add": "({} + {})",
    "sub": "({} - {})",
    "mul": "{} * {}",
    "sin": "jnp.sin({})",
    "tanh": "jnp.tanh({})",
    "exp": "jnp.exp(0.4 * jnp.tanh({}))",
    "square": "jnp.square({})",
}


@dataclass(frozen=True)
class Block:
    """Statements, and what they come to."""

    statements: tuple[Statement, ...]
    result: Expression

    def lines(self) -> Iterator[str]:
        """The body of a function."""
        for statement in self.statements:
            yield from statement.lines()
        yield f"return jnp.asarray({self.result.source()}, float)"


@dataclass(frozen=True)
class Draw:
    """A random choice, as a number.

    Attributes:
        name: of the variable, and its address.
        family: a key of `FAMILIES`.
        parameters: unconstrained; the family's source maps them to where they belong.
        estimator: source.
    """

    name: str
    family: str
    parameters: tuple[Expression, ...]
    estimator: str

    def lines(self) -> Iterator[str]:
        """The statement."""
        family = FAMILIES[self.family].format(*(x.source() for x in self.parameters))
        yield f'{self.name} = 1.0 * ({family}.using({self.estimator}) @ "{self.name}")'


FAMILIES = {
    "flip": "ppl.flip(jax.nn.sigmoid({}))",
    "categorical": "ppl.categorical(logits=jnp.stack([{}, {}, 0.3 * t[0]]))",
    "poisson": "ppl.poisson(jnp.exp(0.5 * jnp.tanh({})))",
    "normal": "ppl.normal({}, jnp.exp(0.3 * jnp.tanh({})))",
    "exponential": "ppl.exponential(jnp.exp(0.5 * jnp.tanh({})))",
}


@dataclass(frozen=True)
class Let:
    """An expression under a name."""

    name: str
    value: Expression

    def lines(self) -> Iterator[str]:
        """The statement."""
        yield f"{self.name} = {self.value.source()}"


@dataclass(frozen=True)
class Branch:
    """`cond` where a choice is above a constant, or `switch` by the value of a choice.

    Attributes:
        name: of the result.
        on: the choice.
        above: the constant; `None` for a switch.
        blocks: of a conditional, what is done if it is not above, and if it is.
    """

    name: str
    on: str
    above: float | None
    blocks: tuple[Block, ...]

    def lines(self) -> Iterator[str]:
        """The statement."""
        names = [f"{self.name}_{i}" for i in range(len(self.blocks))]
        for name, block in zip(names, self.blocks, strict=True):
            yield from _function(name, "", block)
        if self.above is None:
            yield f"{self.name} = jax.lax.switch({self.on}.astype(int), [{', '.join(names)}])"
        else:
            yield f"{self.name} = jax.lax.cond({self.on} > {self.above!r}, {names[1]}, {names[0]})"


@dataclass(frozen=True)
class Loop:
    """A `scan` or a `fori_loop`, whose block sees what it carries and the number of the step."""

    name: str
    kind: str
    length: int
    start: Expression
    block: Block

    def lines(self) -> Iterator[str]:
        """The statement."""
        n = self.name
        start = f"jnp.asarray({self.start.source()}, float)"
        yield from _function(f"{n}_step", f"{n}_carry, {n}_i", self.block)
        if self.kind == "scan":
            step = f"lambda c, i: ({n}_step(c, i), None)"
            yield f"{n}, _ = jax.lax.scan({step}, {start}, jnp.arange({float(self.length)!r}))"
        else:
            yield f"{n} = jax.lax.fori_loop(0, {self.length}, lambda i, c: {n}_step(c, 1.0 * i), {start})"


@dataclass(frozen=True)
class Lanes:
    """A `vmap` over constants, whose results are added up."""

    name: str
    values: tuple[float, ...]
    block: Block

    def lines(self) -> Iterator[str]:
        """The statement."""
        n = self.name
        yield from _function(f"{n}_lane", f"{n}_s", self.block)
        yield f"{n} = jnp.sum(jax.vmap({n}_lane)(jnp.array({list(self.values)!r})))"


@dataclass(frozen=True)
class Wrapped:
    """A block in `jit`, in `checkpoint`, or as an inner expectation, which is used linearly only."""

    name: str
    kind: str
    block: Block

    def lines(self) -> Iterator[str]:
        """The statement."""
        yield from _function(f"{self.name}_body", "", self.block)
        function = {"jit": "jax.jit", "checkpoint": "jax.checkpoint", "expect": "ppl.expect"}[self.kind]
        yield f"{self.name} = {function}({self.name}_body)()"


Statement = Draw | Let | Branch | Loop | Lanes | Wrapped


def _function(name: str, arguments: str, block: Block) -> Iterator[str]:
    yield f"def {name}({arguments}):"
    for line in block.lines():
        yield "    " + line


def nodes(syntax: Any) -> Iterator[Any]:
    """A piece of syntax, and all that it is made of."""
    yield syntax
    if not isinstance(syntax, Number | Parameter | Name):
        for value in vars(syntax).values():
            for inner in value if isinstance(value, tuple) else (value,):
                if is_dataclass(inner):
                    yield from nodes(inner)


def reads(syntax: Any) -> set[str]:
    """The names whose values a piece of syntax uses, those that it binds itself included."""
    found = {node.name for node in nodes(syntax) if isinstance(node, Name | Where)}
    return found | {node.on for node in nodes(syntax) if isinstance(node, Branch)}


def source(block: Block) -> str:
    """A program as Python source."""
    return "\n".join(["def program(t):", *("    " + line for line in block.lines())])
