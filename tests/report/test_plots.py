from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
import pytest
from matplotlib.text import Text

from jaxft.evaluate.metrics import calibration
from jaxft.report import plots

RECORDS = [{"kind": "train", "step": step, "loss": 1 / step, "learning_rate": 1e-5 * step} for step in range(1, 200)]
EVALS = [
    {"kind": "eval", "split": "dev", "step": step, "scores": {"f1": step / 200, "loss": 0.5}} for step in (50, 100)
]


def size(path: Path) -> tuple[int, int]:
    """Width and height of a whole PNG."""
    content = path.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n") and content.endswith(b"IEND\xaeB`\x82")
    return struct.unpack(">II", content[16:24])


@pytest.fixture
def texts(monkeypatch):
    """What a plot says: its texts, caught as it is saved."""
    said: list[str] = []
    save = plots.Figure.savefig

    def spy(figure, *args, **kwargs):
        result = save(figure, *args, **kwargs)
        said.extend(text.get_text() for text in figure.findobj(Text) if text.get_visible())
        return result

    monkeypatch.setattr(plots.Figure, "savefig", spy)
    return said


def test_learning_curves(tmp_path, texts):
    plots.learning_curves([*RECORDS, *EVALS], tmp_path / "a" / "curves.png", "f1", best_step=100)
    assert "Dev f1 (best: 0.5000 at step 100)" in texts and "Learning rate" in texts and "dev" in texts
    width, height = size(tmp_path / "a" / "curves.png")
    assert 1000 < width < 1500 and 800 < height < 1300


@pytest.mark.parametrize(
    "records",
    [
        RECORDS[:1],
        [{"kind": "train", "step": 1, "loss": None, "loss_is": "nan", "learning_rate": 0.0}],
        EVALS,
        [*RECORDS, {"kind": "eval", "split": "test", "step": 5, "scores": {"f1": 1.0}}],
    ],
)
def test_learning_curves_with_little_to_show(tmp_path, records, texts):
    plots.learning_curves(records, tmp_path / "curves.png", "f1")
    size(tmp_path / "curves.png")
    assert ("Dev f1" in texts) == (records is EVALS)


@pytest.mark.parametrize("labels", [2, 20, 21, 70])
def test_confusion_has_counts_up_to_20_labels_and_names_up_to_60(tmp_path, labels, texts):
    matrix = np.full((labels, labels), 1234)
    plots.confusion(matrix, [f"label{i}" for i in range(labels)], tmp_path / "c.png")
    assert texts.count("1,234") == (labels**2 if labels <= 20 else 0)
    assert texts.count("label0") == (2 if labels <= 60 else 0)
    assert (f"predicted ({labels} labels)" in texts) == (labels > 60)
    assert max(size(tmp_path / "c.png")) < 2500


def test_labels_are_never_read_as_tex_and_odd_ones_draw(tmp_path, texts):
    labels = ("$x^2", "日本語", "a\nb", "l" * 60 + "_end", "never seen")
    plots.confusion(np.zeros((5, 5), int), labels, tmp_path / "c.png")
    size(tmp_path / "c.png")
    assert "$x^2" in texts and "a\\x0ab" in texts and "l" * 14 + "…" + "lllll_end" in texts


def test_calibration(tmp_path, texts):
    probabilities = [[0.95, 0.05], [0.92, 0.08], [0.3, 0.7], [0.65, 0.35]]
    calibrated = calibration(probabilities * 57, [0, 1, 1, 0] * 57)
    plots.calibration(calibrated, tmp_path / "c.png")
    size(tmp_path / "c.png")
    assert f"Calibration (ECE {calibrated.ece:.4f})" in texts and texts.count("114") == 2


@pytest.mark.parametrize(
    ("tokens", "longer", "marked"), [([5, 10, 200], 1, True), ([5, 6, 7], 0, False), ([9], 0, False), ([128], 0, True)]
)
def test_lengths_say_how_many_are_cut(tmp_path, tokens, longer, marked, texts):
    plots.lengths(tokens, 128, tmp_path / "l.png")
    size(tmp_path / "l.png")
    assert any(text.startswith(f"{longer} of {len(tokens)} (") for text in texts)
    assert ("limit " in texts) == marked


def test_plots_leave_matplotlib_as_it_was(tmp_path):
    before = dict(plots.mpl.rcParams)
    plots.lengths([1, 2, 3], 8, tmp_path / "l.png")
    assert dict(plots.mpl.rcParams) == before
