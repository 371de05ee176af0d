"""The benchmark of a VAE's gradient at a tiny batch: what is computed, compared, printed and judged."""

from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import pytest

MODULES = ("_vae_contestants", "_vae_measure", "vae_gradient")


@pytest.fixture(scope="module")
def bench(scripts: Any) -> Iterator[SimpleNamespace]:
    with scripts(*MODULES, prefix="_vae_") as found:
        yield found


def test_a_batch_is_measured_and_printed(bench: Any, tmp_path: Path) -> None:
    """Ours and by hand; Pyro is not there, and the table says so."""
    form = bench.contestants.CORRECTED
    assert sum(leaf.size for leaf in jax.tree.leaves(bench.contestants.parameters())) == 320_804
    times, apart = bench.vae_gradient.measured(form, 3, [2], False, tmp_path / "python", 20)
    assert {name: len(found) for name, found in times[2].items()} == {"hand-written": 3, "ppl": 3}
    assert 0 < apart["ppl"] < 1
    with bench.measure.pyro({}, None, tmp_path / "python") as theirs:
        assert theirs == {}
    assert "not run: make bench-peers" in bench.vae_gradient.report(times, True, form)
    assert "no gradient of each datum" in bench.vae_gradient.report(times, True, bench.contestants.ARTIFACT)


def test_another_gradient_is_found(bench: Any) -> None:
    """Draws of one law agree; a mean that is off by 0.3 deviations in 50 directions does not."""
    random = np.random.default_rng(0)

    def one(shift: float) -> Any:
        draws = 1.0 + shift + random.normal(size=(300, 50))
        return bench.measure.Contestant(lambda: 0.0, lambda seed: draws[seed % 300])

    assert bench.measure.agree({"hand-written": one(0.0), "same": one(0.0)})["same"] < 0.2
    with pytest.raises(SystemExit, match="other computes another gradient"):
        bench.measure.agree({"hand-written": one(0.0), "same": one(0.0), "other": one(0.3)})


def test_a_permutation_test_has_its_level(bench: Any) -> None:
    """Of 200 pairs of one law, as many as expected are below 0.2: 40, give or take five deviations of 5.7."""
    random = np.random.default_rng(1)
    draws = random.exponential(size=(200, 2, 10, 3))
    chances = np.array([bench.measure.apart(*pair, shuffles=200)[1] for pair in draws])
    assert 12 < np.sum(chances < 0.2) < 68


def test_bars_go_by_medians(bench: Any) -> None:
    hand, slow = [1.0, 1.0, 9.0], [1.2, 1.2, 1.0]
    bars = lambda **found: [held for _, held in bench.vae_gradient.bars({64: found})]
    assert (
        bars(**{"hand-written": hand, "ppl": [1.04, 1.0, 99.0], "GenJAX": slow, "Pyro 1": slow}) == [True] * 3
    )
    assert bars(**{"hand-written": hand, "ppl": [1.06, 1.06, 0.1], "NumPyro": hand}) == [False]
    assert bars(**{"hand-written": slow, "ppl": slow, "GenJAX": hand, "Pyro 1": hand}) == [True, False, False]
