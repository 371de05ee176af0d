"""What a random program comes to, by NumPy and SciPy alone: a sum over everything that can happen.

Every variable is an array over points of the parameters and over *paths*, assignments of values to the
choices so far. A discrete choice multiplies the paths by its values, a continuous one by the nodes of a
quadrature rule between the constants that it is compared with, each path weighted by its probability or
density.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import scipy.special

from ppl.testing.programs.syntax import (
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
    Where,
    Wrapped,
    nodes,
)

COUNTS = 40
"""Values of a Poisson number that are summed over."""
NODES = 20
"""Of a panel."""

_TINY, _STEP = 1e-30, 0.003
_OFFSETS = np.array([-4, -3, -2, -1, 1, 2, 3, 4])
_SLOPE = np.array([3, -32, 168, -672, 672, -168, 32, -3]) / 840  # the central difference of eighth order


class Answer(NamedTuple):
    """The expected value of a program; its first, and if asked second, derivative along each direction."""

    value: float
    first: np.ndarray
    second: np.ndarray


def answer(block: Block, theta: np.ndarray, directions: np.ndarray, order: int = 1) -> Answer:
    """What the program comes to at `theta`.

    First derivatives are complex steps: the imaginary part at a point that is moved by a tiny imaginary
    number, without any cancellation. Second derivatives are central differences of them.
    """
    offsets = _OFFSETS if order > 1 else []
    rows = [theta + 0j]
    for direction in directions:
        rows += [theta + (o * _STEP + 1j * _TINY) * direction for o in (0, *offsets)]
    values = _Paths(np.array(rows), breaks(block)).expected(block)
    slopes = np.imag(values[1:]).reshape(-1, 1 + len(offsets)) / _TINY
    second = slopes[:, 1:] @ _SLOPE / _STEP if order > 1 else np.zeros(0)
    return Answer(float(values[0].real), slopes[:, 0], second)


def breaks(block: Block) -> dict[str, set[float]]:
    """The constants that each name is compared with."""
    found: dict[str, set[float]] = {}
    for node in nodes(block):
        if isinstance(node, Where):
            found.setdefault(node.name, set()).add(node.above)
        elif isinstance(node, Branch) and node.above is not None:
            found.setdefault(node.on, set()).add(node.above)
    return found


class _Paths:
    """All paths so far: of shape `(points, paths)`, the weights, and the variables by name."""

    def __init__(self, points: np.ndarray, breaks: dict[str, set[float]]) -> None:
        self.points, self.breaks = points, breaks
        self.weights = np.ones((len(points), 1), complex)
        self.active = np.ones((len(points), 1), bool)
        self.variables: dict[str, np.ndarray] = {}
        self.kept: list[np.ndarray] = []  # arrays of enclosing control flow, split along with the rest

    def expected(self, block: Block) -> np.ndarray:
        result = self.run(block)
        return np.sum(self.weights * result, axis=1)

    def run(self, block: Block) -> np.ndarray:
        for statement in block.statements:
            self.variables[statement.name] = self.bind(statement)
        return self.value(block.result)

    def value(self, x: Expression) -> np.ndarray:
        if isinstance(x, Number):
            return np.full(self.weights.shape, x.value)
        if isinstance(x, Parameter):
            return np.broadcast_to(self.points[:, x.index, None], self.weights.shape)
        if isinstance(x, Name):
            return self.variables[x.name]
        if isinstance(x, Where):
            return np.where(np.real(self.variables[x.name]) > x.above, self.value(x.yes), self.value(x.no))
        return _OPERATIONS[x.operation](*map(self.value, x.operands))

    def bind(self, s: Any) -> np.ndarray:
        if isinstance(s, Let):
            return self.value(s.value)
        if isinstance(s, Draw):
            return self.draw(s)
        if isinstance(s, Branch):
            return self.branch(s)
        if isinstance(s, Wrapped):
            return self.run(s.block)
        assert isinstance(s, Loop | Lanes)
        if isinstance(s, Loop):
            self.variables[f"{s.name}_carry"] = self.value(s.start)
            for step in range(s.length):
                self.variables[f"{s.name}_i"] = np.full(self.weights.shape, float(step))
                self.variables[f"{s.name}_carry"] = self.run(s.block)
            return self.variables[f"{s.name}_carry"]
        self.kept.append(np.zeros(self.weights.shape))
        for lane in s.values:
            self.variables[f"{s.name}_s"] = np.full(self.weights.shape, lane)
            found = self.run(s.block)
            self.kept[-1] = self.kept[-1] + found
        return self.kept.pop()

    def branch(self, s: Branch) -> np.ndarray:
        on = np.real(self.variables[s.on])
        index = (
            np.clip(on.astype(int), 0, len(s.blocks) - 1) if s.above is None else (on > s.above).astype(int)
        )
        self.kept += [index, np.zeros(self.weights.shape), self.active]
        for number, block in enumerate(s.blocks):
            self.active = self.kept[-1] & (self.kept[-3] == number)
            found = self.run(block)
            self.kept[-2] = np.where(self.kept[-3] == number, found, self.kept[-2])
        _, found, self.active = self.kept.pop(-3), self.kept.pop(-2), self.kept.pop()
        return found

    def draw(self, s: Draw) -> np.ndarray:
        parameters = [self.value(p) for p in s.parameters]
        if s.family in _DISCRETE:
            size = {"flip": 2, "categorical": 3, "poisson": COUNTS}[s.family]
            values = np.broadcast_to(np.arange(float(size)), (*self.weights.shape, size))
            shares = _DISCRETE[s.family](values, *(p[:, :, None] for p in parameters), self.points)
        else:
            values, widths = _panels(_edges(s.family, parameters), sorted(self.breaks.get(s.name, ())))
            shares = _CONTINUOUS[s.family](values, *(p[:, :, None] for p in parameters)) * widths
        shares = np.where(self.active[:, :, None], shares, np.arange(values.shape[2]) == 0)
        size = values.shape[2]
        self.split(size)
        self.weights = self.weights * shares.reshape(self.weights.shape)
        return np.reshape(values, self.weights.shape)

    def split(self, size: int) -> None:
        """Every path becomes `size` paths; those that weigh nothing at any point are dropped later."""
        repeat = lambda x: np.repeat(x, size, axis=1)
        self.weights, self.active = repeat(self.weights), repeat(self.active)
        self.variables = {name: repeat(x) for name, x in self.variables.items()}
        self.kept = [repeat(x) for x in self.kept]


_OPERATIONS = {
    "add": np.add,
    "sub": np.subtract,
    "mul": np.multiply,
    "sin": np.sin,
    "tanh": np.tanh,
    "exp": lambda x: np.exp(0.4 * np.tanh(x)),
    "square": np.square,
}


def _softmax(x: np.ndarray) -> np.ndarray:
    x = np.exp(x - np.real(x).max(axis=2, keepdims=True))
    return x / x.sum(axis=2, keepdims=True)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    small = np.exp(np.where(np.real(x) > 0, -x, x))
    return np.where(np.real(x) > 0, 1, small) / (1 + small)


def _normal(v: np.ndarray, loc: np.ndarray, scale: np.ndarray) -> np.ndarray:
    scale = np.exp(0.3 * np.tanh(scale))
    return np.exp(-(((v - loc) / scale) ** 2) / 2) / scale / np.sqrt(2 * np.pi)


def _poisson(v: np.ndarray, x: np.ndarray) -> np.ndarray:
    log_rate = 0.5 * np.tanh(x)
    return np.exp(v * log_rate - np.exp(log_rate) - scipy.special.gammaln(v + 1))


_DISCRETE = {
    "flip": lambda v, a, points: _sigmoid(np.where(v == 1, a, -a)),
    "categorical": lambda v, a, b, points: _softmax(
        np.concatenate([a, b, np.broadcast_to(0.3 * points[:, :1, None], a.shape)], axis=2)
    ),
    "poisson": lambda v, a, points: _poisson(v, a),
}
_ENDS = {
    "normal": np.array([-10.0, -5.0, -2.5, -1.0, 0.0, 1.0, 2.5, 5.0, 10.0]),
    "exponential": np.array([0.0, 1.0, 3.0, 8.0, 20.0, 60.0]),
}


def _edges(family: str, parameters: list[np.ndarray]) -> np.ndarray:
    """Where the panels of a quadrature rule end, on each path: those of a normal go with it."""
    ends = np.broadcast_to(_ENDS[family], (*parameters[0].shape, len(_ENDS[family])))
    if family == "normal":
        loc, scale = (np.real(p)[:, :, None] for p in parameters)
        ends = loc + np.exp(0.3 * np.tanh(scale)) * ends
    return ends


def _panels(edges: np.ndarray, breaks: list[float]) -> tuple[np.ndarray, np.ndarray]:
    """Nodes, and their weights, of a Gauss–Legendre rule between edges, and between the breaks among them."""
    inside = np.clip(np.array(breaks), edges[:, :, :1], edges[:, :, -1:])
    edges = np.sort(np.concatenate([edges, inside], axis=2), axis=2)
    x, w = np.polynomial.legendre.leggauss(NODES)
    middle, half = (edges[:, :, 1:] + edges[:, :, :-1]) / 2, (edges[:, :, 1:] - edges[:, :, :-1]) / 2
    nodes, widths = middle[..., None] + half[..., None] * x, half[..., None] * w
    shape = (*edges.shape[:2], -1)
    return nodes.reshape(shape), widths.reshape(shape)


_CONTINUOUS = {
    "normal": _normal,
    "exponential": lambda v, a: np.exp(0.5 * np.tanh(a)) * np.exp(-np.exp(0.5 * np.tanh(a)) * v),
}
