"""What a run shows of itself."""

import io
import sys

import numpy as np
import pytest
from scipy import stats

from ppl.train.progress import Pace, Progress, reporter, summarize


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_mean_and_standard_error_of_a_block():
    values = np.random.default_rng(0).normal(2.0, 3.0, 50).astype(np.float32)
    progress = summarize(60, 100, values)
    assert progress[:2] == (60, 100)
    np.testing.assert_allclose(progress.mean, values.astype(float).mean(), rtol=1e-12)
    np.testing.assert_allclose(progress.standard_error, stats.sem(values.astype(float)), rtol=1e-12)


def test_one_value_has_no_standard_error():
    progress = summarize(1, 1, np.array([3.0], np.float32))
    assert np.isnan(progress.standard_error)
    assert str(progress) == "objective 3"


def test_a_log_gets_a_line_for_each_tenth(capsys):
    report = reporter(True, 1000)
    for step in range(1, 1001):
        report(Progress(step, 1000, -1.5, 0.25))
    report.close()
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 10
    assert lines[-1] == "step 1000/1000: objective -1.5 ± 0.25"


def test_a_terminal_gets_a_bar(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    report = reporter(True, 10)
    report(Progress(10, 10, -1.5, 0.25))
    report.close()
    assert "10/10" in screen.getvalue()
    assert "objective -1.5 ± 0.25" in screen.getvalue()


def test_a_terminal_without_tqdm_gets_lines(monkeypatch):
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    monkeypatch.setitem(sys.modules, "tqdm", None)
    reporter(True, 10)(Progress(10, 10, -1.5, 0.25))
    assert screen.getvalue() == "step 10/10: objective -1.5 ± 0.25\n"


def test_silence(capsys):
    reporter(False, 10)(Progress(10, 10, -1.5, 0.25))
    assert capsys.readouterr().err == ""


def test_a_function_gets_every_report():
    seen = []
    reporter(seen.append, 10)(Progress(10, 10, -1.5, 0.25))
    assert seen == [Progress(10, 10, -1.5, 0.25)]


@pytest.mark.parametrize(("seconds_per_step", "expected"), [(1e-3, 300), (1e-1, 3), (10.0, 1), (1e-9, 1000)])
def test_blocks_grow_until_a_look_comes_every_third_of_a_second(monkeypatch, seconds_per_step, expected):
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])
    pace = Pace(None, capacity=1000)
    assert pace.count == 1
    for _ in range(12):
        clock[0] += pace.count * seconds_per_step
        pace.block_done()
    assert pace.count == pytest.approx(expected, rel=0.34)


def test_a_given_length_is_kept():
    pace = Pace(17, capacity=17)
    pace.block_done()
    assert pace.count == 17
