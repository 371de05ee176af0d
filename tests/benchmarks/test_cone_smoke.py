"""The benchmark of the cone at tiny sizes: exact bounds, everybody's values, and what is printed."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

MODULES = ("problem", "optima", "ours", "genjax", "numpyro", "measure", "report")
ERRORS = 4.0
"""Standard errors: false alarms are one in 16,000 for each comparison, and keys are fixed."""


@pytest.fixture(scope="module")
def bench(scripts: Any) -> Iterator[SimpleNamespace]:
    with scripts(*(f"_cone_{name}" for name in MODULES), "cone", prefix="_cone_") as found:
        yield found


def test_the_laws_on_grids_are_those_of_a_simulation(bench: Any) -> None:
    """Of five angles and one or five points, near the optimum; the grids are coarse here."""
    optima = bench.optima
    for points, bound, log_sd in ((1, optima.iwhvi5, -3.064), (5, optima.diwhvi55, -2.06)):
        found = optima.simulated(log_sd, points, 40_000)
        assert abs(bound(log_sd, 0.16) - found.value) < ERRORS * found.error


def test_a_law_of_a_log_sum_is_exact_where_the_sum_is_known(bench: Any) -> None:
    """The mean of log(e1 + ... + e5) for exponential variables is the digamma function at 5."""
    optima, uniform = bench.optima, (np.arange(200_000) + 0.5) / 200_000
    values = np.log(-np.log(uniform))[None]
    law = optima.law_of(values, np.full_like(values, 1 / 200_000), -20.0, 3.0, 0.02)
    five = 1 + 1 / 2 + 1 / 3 + 1 / 4 - np.euler_gamma
    assert optima.mean(optima.law_of_log_sum_of_five(law)) == pytest.approx(five, abs=1e-4)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of GenJAX's dependencies
@pytest.mark.parametrize("library", ["ours", "genjax", "numpyro"])
def test_hvi_is_the_quadrature_and_its_gradient_vanishes_at_the_optimum(bench: Any, library: str) -> None:
    cell, exact = getattr(bench, library).CELLS["HVI"], bench.optima.cone_exact
    log_sd = bench.problem.ROWS["HVI"].end["lx"]
    phi = {"lx": jnp.float32(log_sd), "ly": jnp.float32(log_sd)}

    def one(key: Any) -> Any:
        return cell.value(key, phi), cell.gradient(key, phi, 1)

    draws = jax.jit(jax.vmap(one))(jax.random.split(jax.random.key(0), 20_000))
    values, *slopes = (np.asarray(x, np.float64) for x in jax.tree.leaves(draws))
    error = lambda x: x.std() / len(x) ** 0.5
    quadrature = exact.elbo(exact.ring_log_weights((log_sd,), von_mises=False))
    assert abs(values.mean() - quadrature) < ERRORS * error(values)
    for slope in slopes:
        assert abs(slope.mean()) < ERRORS * error(slope)


def test_lines_are_counted_without_comments_and_docstrings(bench: Any, tmp_path: Path) -> None:
    file = tmp_path / "some.py"
    file.write_text(
        '@a\n@b\ndef f(x):\n    """One.\n\n    Two.\n    """\n    # why\n\n    return x\n\n\ng = 1\nh = 2\n'
    )
    assert bench.problem.lines(file, ("f",)) == 4
    assert bench.problem.lines(file, ("f", "g")) == 5


def test_a_row_is_measured_printed_and_written(bench: Any, tmp_path: Path, capsys: Any) -> None:
    data = bench.cone.main(["HVI"], quick=True, peers=False, file=tmp_path / "found.json")
    assert json.loads((tmp_path / "found.json").read_text()) == data
    printed = capsys.readouterr().out
    assert "HVI" in printed and "-9.7481" in printed and "quick" in printed
    cell = data["rows"]["HVI"]["cells"]["ppl"]
    assert cell["paper"]["phi"].keys() == {"lx", "ly"}
    assert cell["step"] > 0 and cell["lines"] == 8


def test_a_value_off_its_optimum_misses_its_bar(bench: Any) -> None:
    estimate = lambda value: {"value": value, "error": 0.001}
    row = lambda paper, converged: {
        "optimum": -9.7481, "table4": -9.75, "rerun": -9.75,
        "cells": {"ppl": {"paper": estimate(paper), "converged": estimate(converged)}},
    }  # fmt: skip
    data = {
        "sizes": bench.problem.FULL._asdict(),
        "rows": {"right": row(-9.75, -9.75), "wrong": row(-9.85, -9.77)},
    }
    assert [held for _, held in bench.report.bars(data)] == [True, True, False, False]


@pytest.mark.parametrize(("step", "held"), [(1.04e-5, True), (1.06e-5, False)])
def test_a_step_slower_than_the_fastest_peers_misses_its_bar(bench: Any, step: float, held: bool) -> None:
    estimate = {"value": -9.75, "error": 0.001}
    own = {"paper": estimate, "converged": estimate, "step": 1.0, "step_in_loop": step}
    cells = {"ppl": own, "GenJAX": {"step": 1e-5}, "NumPyro": {"step": 2e-5}, "Pyro": {"reason": "not run"}}
    row = {"optimum": -9.7481, "table4": -9.75, "rerun": -9.75, "cells": cells}
    *_, (text, found) = bench.report.bars({"sizes": bench.problem.FULL._asdict(), "rows": {"HVI": row}})
    assert found is held and "GenJAX" in text


def test_pyro_that_is_not_there_is_not_run(bench: Any, tmp_path: Path) -> None:
    cells = bench.cone.pyro_cells(["ELBO", "IWHVI(5,1)"], bench.problem.QUICK, tmp_path / "python")
    assert all("reason" in cell for cell in cells.values())
    assert cells["ELBO"]["reason"].startswith("not run")
