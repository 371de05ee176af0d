"""The benchmarks of attend, infer, repeat at tiny sizes: what is measured, written and judged."""

import json
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from scipy.stats import norm

from models.air.data import split
from models.air.nets import Sizes

MODULES = ("air", "air_steps", "_air_report", "_air_plan", "_air_checks", "_air_plot")
TINY = Sizes(canvas=24, window=4, what=3, hidden=5, lstm=4)


@pytest.fixture(scope="module")
def bench(scripts: Any) -> Iterator[SimpleNamespace]:
    with scripts(*MODULES) as found:
        yield found


def epochs(
    experiment: str, strategy: str, seed: int, elbos: list[float], accuracy: float, rate: float = 1e-3
) -> list[Any]:
    setting = [rate, 0.1, 32, len(elbos) - 1, False]
    return [
        {
            "kind": "epoch", "experiment": experiment, "strategy": strategy, "setting": setting, "seed": seed,
            "number": number, "seconds": 2.0 * number, "objective": 0.0, "elbo": elbo, "accuracy": accuracy,
            "confusion": [[1, 0, 0, 0]] * 3, "wall": 0.0,
        }
        for number, elbo in enumerate(elbos)
    ]  # fmt: skip


def lines(bench: Any, second: float) -> list[Any]:
    better, plateau = bench.air_plan.BETTER, bench.air_plan.PLATEAU
    checks = {"ignored": 20.0, "straight-through": 30.0, "RWS(1) from zero": 2.0, "RWS(10) from zero": 40.0}
    return [
        {"kind": "run", "date": "a day", "machine": "here", "empty": 80.0},
        *epochs(better, "MVD", 1, [70.0, 95.0], 0.95),
        *epochs(better, "MVD", 2, [70.0, 85.0], second),
        *epochs(plateau, "MVD", 1, [70.0, 80.0, 91.0], 0.6),
        *epochs(plateau, "REINFORCE", 1, [70.0, 80.0, 81.0, 92.0], 0.3),
        {"kind": "ablations", **checks},
    ]


def test_tables_count_seeds_and_say_when_the_plateau_is_left(bench: Any) -> None:
    found = lines(bench, 0.7)
    row = next(x for x in bench.air_report.figure(found, bench.air_plan.BETTER).splitlines() if "MVD" in x)
    assert " ".join(row.split()) == "MVD 1 of 2 0.825 0.700 90.0 1 of 2 1 2.0 2.00 1"
    judged = {text.split(":")[0]: held for text, held in bench.air_report.bars(found)}
    assert judged.pop("MVD") is False  # a median of 0.825
    more = [
        line for seed in (3, 4, 5) for line in epochs(bench.air_plan.BETTER, "MVD", seed, [70.0, 95.0], 0.95)
    ]
    for some, held in ((found + more, True), (found + more[2:], False)):  # five seeds are judged, not four
        assert next(h for text, h in bench.air_report.bars(some) if text.startswith("MVD:")) is held
    assert judged and all(judged.values())
    late = [line for line in found if line.get("strategy") != "REINFORCE"]
    late += epochs(bench.air_plan.PLATEAU, "REINFORCE", 1, [70.0, 91.0], 0.3)
    assert [held for text, held in bench.air_report.bars(late) if "leaves the plateau" in text] == [False]


def test_the_rate_of_the_profiles_is_the_best_of_those_tried(bench: Any) -> None:
    for best, held in ((1e-3, True), (3e-4, False)):
        found = lines(bench, 0.96)
        for rate in bench.air_plan.TRIED[:2]:
            found += epochs(bench.air_plan.TUNING, "MVD", 0, [70.0, 95.0 + (rate == best)], 0.9, rate)
        assert "not run" in bench.air_report.rates(found)  # a rate is missing
        found += epochs(bench.air_plan.TUNING, "MVD", 0, [70.0, 95.5], 0.8)
        assert "95.5 (0.800, 1)" in bench.air_report.rates(found)
        assert [h for text, h in bench.air_report.bars(found) if "of three rates" in text] == [held]
        for seed in (1, 2):  # the median decides
            found += epochs(bench.air_plan.TUNING, "MVD", seed, [70.0, 97.0], 0.9)
        assert [h for text, h in bench.air_report.bars(found) if "of three rates" in text] == [True]
    assert {run.setting.rate for run in bench.air_plan.PROFILES["rates"].runs} == set(bench.air_plan.TRIED)
    assert bench.air.tasks(bench.air_plan.PROFILES["rates"], SimpleNamespace(of=lambda kind: []))[-1] != []


def test_a_file_is_gone_on_with_and_drawn(bench: Any, tmp_path: Path, capsys: Any) -> None:
    file = tmp_path / "found.jsonl"
    file.write_text("".join(json.dumps(line) + "\n" for line in lines(bench, 0.96)))
    log = bench.air.Log(file)
    setting = bench.air_plan.Setting(1e-3, 0.1, 32, 1)
    run = bench.air_plan.Run(bench.air_plan.BETTER, "MVD", setting, 2)
    has = bench.air.has
    assert has(log, run)
    assert not has(log, run._replace(seed=3))
    assert not has(log, run._replace(setting=setting._replace(epochs=2)))
    plan = bench.air_plan.Profile([run, run._replace(seed=3), run._replace(strategy="ENUM")], 1, 1, (0,))
    assert bench.air.tasks(plan, log) == [[run._replace(seed=3)], [run._replace(strategy="ENUM")]]
    with pytest.raises(SystemExit):  # three seeds of MVD are missing, and so its bar is missed
        bench.air.main("quick", file, only_report=True)
    assert "seed 14" in capsys.readouterr().out  # of the runs that are missing
    with file.open("a") as stream:
        stream.write('{"kind": "epo')  # a process that was stopped
    log.add(kind="run")
    log.read()
    assert log.lines == [*lines(bench, 0.96), {"kind": "run"}]
    assert file.with_suffix(".png").stat().st_size > 10_000


def test_the_plateau_is_where_nothing_is_found(bench: Any) -> None:
    test = split(1, 50)[1]
    images = norm.logpdf(test.images, 0.0, 0.3).sum((1, 2))
    absent = np.log1p(-np.array([0.05, 0.05**2.3, 0.05**5])).sum()
    assert bench.air_checks.empty_bound(test) == pytest.approx(images.mean() + absent, rel=1e-5)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")  # of GenJAX's dependencies
def test_a_row_of_steps_is_measured(
    bench: Any, tmp_path: Path, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delitem(bench.air_steps._air_hand.GRADIENTS, "REINFORCE")  # to save its compilation
    file = tmp_path / "steps.json"
    bench.air_steps.main(["REINFORCE"], 8, 4, False, file, sizes=TINY)
    printed = capsys.readouterr().out
    assert "all agree" in printed and "not run" in printed
    cells = json.loads(file.read_text())["rows"]["REINFORCE"]
    assert cells.keys() == {"ppl"}
    assert cells["ppl"]["step"] > 0 and cells["ppl"]["compile"] > 0


def test_a_wrong_gradient_is_an_error(bench: Any) -> None:
    cell = lambda slope: bench.air_steps.Cell(0.1, 0.1, 1.0, slope, 0.1)
    with pytest.raises(SystemExit, match="MVD, GenJAX: slope 3"):
        bench.air_steps.agreement({"MVD": {"ppl": cell(1.0), "GenJAX": cell(3.0)}})
    nothing = bench.air_steps.Cell(0.1, 0.1, None, 0.0, 0.0)
    said = bench.air_steps.agreement({"IWELBO": {"ppl": cell(1.0), "Pyro": nothing}})
    assert said == "all agree, but there is none at all in IWELBO, Pyro."
