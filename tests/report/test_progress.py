from __future__ import annotations

import io
import re

import pytest
from rich.console import Console

from jaxft.report.progress import Progress


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def terminal() -> Console:
    return Console(file=io.StringIO(), force_terminal=True, width=80, color_system=None, legacy_windows=False)


def log_file() -> Console:
    return Console(file=io.StringIO(), force_terminal=False, width=80)


def text(console: Console) -> str:
    assert isinstance(console.file, io.StringIO)
    return console.file.getvalue()


def train(progress: Progress, clock: Clock, steps: range, seconds: float = 2.0) -> None:
    for step in steps:
        clock.now += seconds
        progress.step(step, loss=1 / step, real_tokens=1000)


def test_lines_go_to_a_log_at_the_first_step_then_every_so_many_seconds_and_at_the_end():
    clock, console = Clock(), log_file()
    with Progress(12, console=console, clock=clock, every_s=10) as progress:
        train(progress, clock, range(1, 13))
    lines = text(console).splitlines()
    assert [line.split()[1] for line in lines] == ["1/12", "6/12", "11/12", "12/12"]
    assert lines[0] == "step 1/12  loss 1.0000"
    assert lines[1] == "step 6/12  loss 0.1667  500 tok/s  0:00:12 left"
    assert "\x1b" not in text(console)


def test_a_log_has_a_line_for_each_evaluation_compilation_and_message_unwrapped():
    clock, console = Clock(), log_file()
    with Progress(100, metric="f1", console=console, clock=clock) as progress:
        progress.compiling("the training step")
        progress.step(1, 0.5, 10)
        progress.evaluated(1, {"f1": 0.5, "accuracy": 2 / 3}, best=True)
        progress.message("[bold]as it is[/bold] " + "x" * 100)
    assert text(console).splitlines() == [
        "compiling the training step ...",
        "step 1/100  loss 0.5000",
        "step 1: dev f1 0.5000, accuracy 0.6667 (best so far)",
        "[bold]as it is[/bold] " + "x" * 100,
    ]


def test_throughput_leaves_compiling_and_evaluating_out_time_left_only_compiling():
    clock = Clock()
    with Progress(11, metric="f1", console=log_file(), clock=clock) as progress:
        progress.compiling("the training step")
        assert progress.real_tokens_per_s is None and progress.left_s is None
        train(progress, clock, range(1, 2), seconds=60)
        train(progress, clock, range(2, 4))
        assert progress.real_tokens_per_s == pytest.approx(500)
        assert progress.left_s == pytest.approx(8 * 2)
        clock.now += 30
        progress.evaluated(3, {"f1": 0.25})
        train(progress, clock, range(4, 6))
        assert progress.real_tokens_per_s == pytest.approx(500)
        assert progress.left_s == pytest.approx(6 * 38 / 4)  # 2 + 2 + 30 + 2 + 2 seconds for 4 steps
        assert progress.status() == "loss 0.2000  f1 0.2500  500 tok/s  0:00:57 left"
        progress.compiling("another shape")
        train(progress, clock, range(6, 7), seconds=100)
        assert progress.left_s == pytest.approx(5 * 38 / 4)
        train(progress, clock, range(7, 8))
        assert progress.left_s == pytest.approx(4 * 40 / 5)


def test_loss_stays_when_it_was_not_fetched():
    with Progress(5, console=log_file()) as progress:
        progress.step(1, 0.25)
        progress.step(2)
        assert progress.status().startswith("loss 0.2500")


def test_scores_of_other_splits_do_not_replace_the_dev_score():
    console = log_file()
    with Progress(5, metric="f1", console=console) as progress:
        progress.evaluated(5, {"f1": 0.5})
        progress.evaluated(5, {"f1": 0.75}, split="test")
        assert progress.status() == "f1 0.5000"
    assert "step 5: test f1 0.7500" in text(console)


def test_the_live_bar_shows_everything_in_80_columns():
    clock, console = Clock(), terminal()
    with Progress(1317, metric="macro_f1", console=console, clock=clock) as progress:
        progress.compiling("the training step")
        train(progress, clock, range(1, 440))
        progress.evaluated(439, {"macro_f1": 0.8712})
        train(progress, clock, range(440, 442))
    shown = text(console)
    bars = [line for line in re.sub(r"\x1b\[[?0-9]*[A-Za-z]", "\n", shown).splitlines() if "━" in line]
    for part in ("step 441/1,317", "loss 0.0023", "macro_f1 0.8712", "500 tok/s", "0:29:12 left"):
        assert part in bars[-1]
    assert {len(line) for line in bars} == {80}
    assert "compiling the training step ..." in shown and "step 439: dev macro_f1 0.8712" in shown


def test_the_live_bar_goes_away_when_the_run_fails():
    console = terminal()
    with pytest.raises(FloatingPointError), Progress(5, console=console) as progress:
        progress.step(1, 0.5)
        raise FloatingPointError
    assert "\x1b[?25h" in text(console)  # the cursor is visible again


def test_a_resumed_run_starts_where_it_stopped():
    console = terminal()
    with Progress(50, start_step=20, console=console):
        pass
    assert "step 20/50" in text(console)


def test_quiet_says_nothing():
    for console in (terminal(), log_file()):
        with Progress(2, quiet=True, console=console) as progress:
            progress.compiling("the training step")
            progress.step(1, 0.5, 10)
            progress.evaluated(1, {"f1": 0.5})
            progress.message("hello")
        assert text(console) == ""
