"""How random programs are made: a strategy for Hypothesis, that shrinks to small ones."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

from hypothesis import strategies as st

from ppl.errors import DiscontinuousReparameterization, DuplicateAddress, EstimatorNotAdmitted
from ppl.testing.programs.program import Program
from ppl.testing.programs.syntax import (
    Apply,
    Block,
    Branch,
    Draw,
    Expression,
    Lanes,
    Let,
    Loop,
    Name,
    Number,
    Parameter,
    Statement,
    Where,
    Wrapped,
    reads,
)

DEPTH = 4
"""How deep control flow nests."""
LENGTH = 12
"""After how many names there is no further control flow."""
BUDGET = 1e4
"""How many paths a program has at most, of its choices and of its noise."""

# What a choice multiplies the paths by: its own values, and its noise under an estimator.
ESTIMATORS: dict[str, dict[str, float]] = {
    "flip": {
        "Enumerate()": 2, "Reinforce()": 2, "Reinforce(baseline=0.7)": 2, "MeasureValued()": 2,
        "DisARM()": 60, "StochasticTriple()": 2, "UnorderedSet(samples=2)": 8, "LeaveOneOut(samples=2)": 4,
    },
    "categorical": {
        "Enumerate()": 3, "Reinforce()": 3, "MeasureValued()": 3, "UnorderedSet(samples=2)": 27,
        "LeaveOneOut(samples=2)": 9,
    },
    "poisson": {"Reinforce()": 40, "MeasureValued()": 40, "StochasticTriple()": 40},
    "normal": {"Reparam()": 100, "Reinforce()": 100},
    "exponential": {"Reparam()": 100, "Reinforce()": 100, "MeasureValued()": 4000},
}  # fmt: skip
CONTINUOUS = ("normal", "exponential")


@dataclass
class _Scope:
    """What may be used where a statement is made.

    Attributes:
        budget: the paths that are left, of the program as a whole.
        values: names of numbers.
        discrete: names of choices with finitely many values, and how many.
        jumping: names of continuous choices that may be compared, because their draws do not move.
        linear: names that may be used linearly only: they hold inner expectations.
        linear_here: whether what is made here is used linearly, all the way out.
        power: how often what is made here is repeated by loops and lanes around it.
        depth: of control flow around it.
    """

    names: list[int]
    budget: list[float]
    values: list[str] = field(default_factory=list)
    discrete: dict[str, int] = field(default_factory=dict)
    jumping: list[str] = field(default_factory=list)
    linear: list[str] = field(default_factory=list)
    linear_here: bool = True
    power: int = 1
    depth: int = 0

    def fresh(self, letter: str) -> str:
        self.names[0] += 1
        return f"{letter}{self.names[0]}"

    def inside(self, times: int = 1, values: tuple[str, ...] = (), linear: bool = True) -> _Scope:
        return replace(
            self, values=[*self.values, *values], discrete=dict(self.discrete), jumping=list(self.jumping),
            linear=[], linear_here=self.linear_here and linear, power=self.power * times,
            depth=self.depth + 1,
        )  # fmt: skip

    def affords(self, cost: float) -> bool:
        return cost**self.power <= self.budget[0]

    def pay(self, cost: float) -> None:
        self.budget[0] /= cost**self.power


numbers = st.sampled_from([0.5, 1.0, -0.7, 1.5, -1.2, 2.0])
constants = st.sampled_from([0.5, -0.3, 0.9])


@st.composite
def expressions(draw: Any, scope: _Scope, depth: int = 2) -> Expression:
    """A number, of parameters and of what has been drawn."""
    kinds = ["number", "parameter", "parameter"] + ["name"] * 3 * bool(scope.values)
    if depth:
        kinds += ["apply"] * 3 + ["where"] * bool(scope.jumping or scope.discrete)
    kind = draw(st.sampled_from(kinds))
    if kind == "number":
        return Number(draw(numbers))
    if kind == "parameter":
        return Parameter(draw(st.integers(0, 1)))
    if kind == "name":
        return Name(draw(st.sampled_from(scope.values[::-1])))
    inner = expressions(scope, depth - 1)
    if kind == "where":
        name = draw(st.sampled_from([*scope.jumping, *scope.discrete]))
        above = 0.5 if name in scope.discrete else draw(constants)
        return Where(name, above, draw(inner), draw(inner))
    # In loops nothing is multiplied, or a carry would soon be a number to the sixty-fourth.
    operations = ["add", "sub", "sin", "tanh", "exp"] + ["mul", "square"] * (scope.power == 1)
    operation = draw(st.sampled_from(operations))
    count = 2 if operation in ("add", "mul", "sub") else 1
    if operation in ("mul", "square"):
        inner = expressions(scope, 0)  # a square of squares is too steep for a rule of sixty nodes
    return Apply(operation, tuple(draw(inner) for _ in range(count)))


@st.composite
def choices(draw: Any, scope: _Scope) -> Statement:
    """A random choice, with one of the estimators that its family admits."""
    pairs = [(f, e) for f, those in ESTIMATORS.items() for e, cost in those.items() if scope.affords(cost)]
    if not pairs:
        return Let(scope.fresh("y"), draw(expressions(scope)))
    family, estimator = draw(st.sampled_from(pairs))
    scope.pay(ESTIMATORS[family][estimator])
    count = 2 if family in ("categorical", "normal") else 1
    parameters = tuple(draw(expressions(scope, 1)) for _ in range(count))
    name = scope.fresh("x")
    if family in ("flip", "categorical"):
        scope.discrete[name] = 2 if family == "flip" else 3
    elif family in CONTINUOUS and estimator != "Reparam()":
        scope.jumping.append(name)
    scope.values.append(name)
    return Draw(name, family, parameters, estimator)


@st.composite
def statements(draw: Any, scope: _Scope) -> Statement:
    """A choice, an expression, or control flow."""
    kinds = ["choice"] * 3 + ["let"]
    if scope.depth < DEPTH and scope.names[0] < LENGTH:
        kinds += ["scan", "fori", "lanes", "jit", "checkpoint"] + ["expect"] * scope.linear_here
        kinds += ["cond"] * bool(scope.discrete or scope.jumping) + ["switch"] * bool(scope.discrete)
    kind = draw(st.sampled_from(kinds))
    if kind == "choice":
        return draw(choices(scope))
    inside = scope.inside()
    if kind == "let":
        statement: Statement = Let(scope.fresh("y"), draw(expressions(scope)))
    elif kind == "cond":
        name, on = scope.fresh("b"), draw(st.sampled_from([*scope.discrete, *scope.jumping]))
        above = 0.5 if on in scope.discrete else draw(constants)
        statement = Branch(name, on, above, tuple(draw(_block(scope, inside)) for _ in range(2)))
    elif kind == "switch":
        name, on = scope.fresh("b"), draw(st.sampled_from([*scope.discrete]))
        made = tuple(draw(_block(scope, inside)) for _ in range(scope.discrete[on]))
        statement = Branch(name, on, None, made)
    elif kind in ("scan", "fori"):
        name, length = scope.fresh("c"), draw(st.sampled_from([1, 2, 3, 2, 0]))
        carried = f"{name}_carry"
        inside = scope.inside(max(length, 1), (carried, f"{name}_i"), linear=False)
        statement = Loop(name, kind, length, draw(expressions(scope, 1)), draw(blocks(inside, (carried,))))
    elif kind == "lanes":
        name, lanes = scope.fresh("v"), tuple(draw(st.lists(numbers, min_size=1, max_size=3)))
        inside = scope.inside(len(lanes), (f"{name}_s",))
        statement = Lanes(name, lanes, draw(blocks(inside)))
    else:
        statement = Wrapped(scope.fresh("w"), kind, draw(blocks(inside)))
    (scope.linear if kind == "expect" or inside.linear else scope.values).append(statement.name)
    return statement


@st.composite
def _block(draw: Any, scope: _Scope, noted: _Scope) -> Block:
    """A block of a conditional; `noted` takes in what it has of inner expectations."""
    inside = scope.inside()
    made = draw(blocks(inside))
    noted.linear += inside.linear
    return made


@st.composite
def blocks(draw: Any, scope: _Scope, entering: tuple[str, ...] = (), most: int = 2) -> Block:
    """Some statements, and a result that whatever enters or is made here, and is not used yet, enters.

    What nothing depends on tests nothing. Inner expectations enter linearly.
    """
    made = tuple(draw(statements(scope)) for _ in range(draw(st.integers(1, most))))
    return Block(made, draw(_result(scope, (*entering, *(x.name for x in made)), made)))


@st.composite
def _result(draw: Any, scope: _Scope, names: tuple[str, ...], made: tuple[Statement, ...]) -> Expression:
    result = draw(expressions(scope))
    used = reads(Block(made, result))
    for name in names:
        if name not in used and name not in scope.linear:
            shape = draw(st.sampled_from(["as it is", "sin", "tanh"]))
            term: Expression = Name(name) if shape == "as it is" else Apply(shape, (Name(name),))
            result = Apply("add", (term, result))
    for name in scope.linear:
        result = Apply("add", (result, Apply("mul", (Number(draw(numbers)), Name(name)))))
    return result


@st.composite
def programs(draw: Any, illegal: float = 0.05, size: int = 4, expectations: bool = True) -> Program:
    """Random programs with exact answers.

    Choices of several families and estimators, in and under `cond`, `switch`, `scan`, `fori_loop`, `vmap`,
    `jit`, `checkpoint` and inner expectations, nested up to four deep; integrands that are skewed and that
    jump. A failing program shrinks to a small one, and prints as source.

    Args:
        draw: Hypothesis hands it in.
        illegal: the share of programs that are not allowed; their `error` says what must be raised.
        size: how many statements the program has at the top, at most.
        expectations: whether there are inner expectations, which a generative function does not take.

    Example:
        >>> from hypothesis import given, settings
        >>> from ppl.testing.programs import programs
        >>> @settings(max_examples=5, deadline=None)
        ... @given(programs(illegal=0.0))
        ... def test_my_transformation(program):
        ...     value = program.expectation.estimate(jax.random.key(0), jnp.asarray(program.theta))
        ...     assert jnp.isfinite(value)
    """
    if draw(st.integers(0, 999)) >= 1000 - 1000 * illegal:
        return draw(illegal_programs())
    scope = _Scope([0], [BUDGET], linear_here=expectations)
    first = draw(choices(scope))
    rest = draw(blocks(scope, (first.name,), size))
    return Program(Block((first, *rest.statements), rest.result))


@st.composite
def illegal_programs(draw: Any) -> Program:
    """Programs that must be refused, and by which error."""
    program = draw(programs(illegal=0.0, size=2))
    block = program.block
    kind = draw(st.sampled_from(["not admitted", "infinite", "jump", "twice"]))
    if kind == "twice":
        first = block.statements[0]
        block = replace(block, statements=(first, first, *block.statements[1:]))
        return replace(program, block=block, error=DuplicateAddress)
    if kind == "jump":
        wrong = Draw("z", "normal", (Parameter(0), Number(0.5)), "Reparam()")
        result = Apply("add", (block.result, Where("z", 0.5, Number(1.0), Number(2.0))))
        error: type[Exception] = DiscontinuousReparameterization
    else:
        pair = ("flip", "Reparam()") if kind == "not admitted" else ("poisson", "Enumerate()")
        wrong = Draw("z", pair[0], (Parameter(1),), pair[1])
        result, error = Apply("add", (block.result, Name("z"))), EstimatorNotAdmitted
    return replace(program, block=Block((*block.statements, wrong), result), error=error)
