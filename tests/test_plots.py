"""The pictures are valid, show their data, and take any label and any history."""

import os
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.image import imread

from kbert.plot_text import DEFAULT_FONT, drawable
from kbert.plots import plot_confusion, plot_curves

BLUE, ORANGE, GREY = (0, 114, 178), (213, 94, 0), (102, 102, 102)
DARKEST_BLUE = (8, 48, 107)  # of the colour map: a share of 100 %


@pytest.fixture(autouse=True)
def no_warnings() -> Iterator[None]:
    """A missing glyph, a bad layout or an empty legend is a warning of matplotlib."""
    with warnings.catch_warnings():
        # Matplotlib's own; a file that another test left open is no matter here.
        warnings.simplefilter("error", UserWarning)
        yield


@pytest.fixture
def only_dejavu(monkeypatch: pytest.MonkeyPatch) -> None:
    fonts = [f for f in font_manager.fontManager.ttflist if f.name == DEFAULT_FONT]
    monkeypatch.setattr(font_manager.fontManager, "ttflist", fonts)


@pytest.fixture
def chinese_font(only_dejavu: None, tmp_path_factory: pytest.TempPathFactory) -> str:
    """Install a font that has a block for 中 and nothing else; return its name."""
    family = "Noto Sans CJK Test"
    pen = TTGlyphPen(None)
    pen.moveTo((0, 0))
    for point in ((0, 800), (900, 800), (900, 0)):
        pen.lineTo(point)
    pen.closePath()
    block = pen.glyph()
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", "zhong"])
    builder.setupCharacterMap({ord("中"): "zhong"})
    builder.setupGlyf({".notdef": block, "zhong": block})
    builder.setupHorizontalMetrics({".notdef": (1000, 0), "zhong": (1000, 0)})
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": family, "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path = tmp_path_factory.mktemp("fonts") / "test.ttf"
    builder.save(path)
    font_manager.fontManager.addfont(path)
    return family


def picture(path: Path) -> np.ndarray[Any, Any]:
    """Return the [height, width, 3] bytes of a PNG of readable size."""
    assert path.read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
    pixels = np.round(imread(path)[..., :3] * 255).astype(int)
    height, width, _ = pixels.shape
    assert 300 <= height <= 2600 and 400 <= width <= 2600
    assert (pixels[0, 0] == 255).all()
    return pixels


def has_color(pixels: np.ndarray[Any, Any], color: tuple[int, int, int]) -> bool:
    return bool((pixels == color).all(axis=-1).any())


def confusion(labels: list[str], counts: Any) -> dict[str, Any]:
    return {"labels": labels, "counts": np.asarray(counts).tolist()}


def history(num_lines: int) -> list[dict[str, Any]]:
    return [
        {
            "step": 100 * k,
            "epoch": k / 2,
            "train_loss": 1 / k,
            "learning_rate": 1e-5,
            "validation": {
                "loss": 0.5 + abs(k - 2) / 10,
                "num_examples": 50,
                "accuracy": 1 - 0.3 / k,
                "macro_f1": 1 - 0.4 / k,
                "per_class": {"a": {"f1": 0.5}},
            },
        }
        for k in range(1, num_lines + 1)
    ]


class TestConfusion:
    def test_rows_are_true_and_columns_predicted(self, tmp_path: Path) -> None:
        path = tmp_path / "confusion.png"
        plot_confusion(confusion(["a", "b"], [[0, 10], [0, 10]]), path)
        rows, columns = np.nonzero((picture(path) == DARKEST_BLUE).all(axis=-1))
        # All is predicted as b: the right half is dark, from top to bottom.
        assert np.ptp(rows) > 1.5 * np.ptp(columns[columns < np.median(columns) + 200])
        plot_confusion(confusion(["a", "b"], [[10, 0], [10, 0]]), path)
        _, mirrored = np.nonzero((picture(path) == DARKEST_BLUE).all(axis=-1))
        assert np.median(mirrored) < np.median(columns) - 100

    def test_other_counts_are_another_picture(self, tmp_path: Path) -> None:
        plot_confusion(confusion(["a", "b"], [[5, 1], [2, 7]]), tmp_path / "one.png")
        plot_confusion(confusion(["a", "b"], [[5, 1], [2, 7]]), tmp_path / "same.png")
        plot_confusion(confusion(["a", "b"], [[5, 1], [3, 7]]), tmp_path / "two.png")
        one, same, two = (
            (tmp_path / f"{name}.png").read_bytes() for name in ("one", "same", "two")
        )
        assert one == same != two

    @pytest.mark.parametrize("num_classes", [1, 20, 61])
    def test_any_number_of_classes(self, tmp_path: Path, num_classes: int) -> None:
        labels = [f"class number {k}" for k in range(num_classes)]
        counts = np.eye(num_classes, dtype=int) * 1000 + 1
        plot_confusion(confusion(labels, counts), tmp_path / "confusion.png")
        picture(tmp_path / "confusion.png")
        assert os.listdir(tmp_path) == ["confusion.png"]

    def test_a_class_without_examples(self, tmp_path: Path) -> None:
        plot_confusion(confusion(["a", "b"], [[5, 1], [0, 0]]), tmp_path / "a.png")
        picture(tmp_path / "a.png")

    @pytest.mark.usefixtures("only_dejavu")
    @pytest.mark.parametrize(
        "label", ["$x_{$", "中文" * 20, "a\nb\x00", "", "👩‍🔬", "\\frac", "é" * 80]
    )
    def test_any_label(self, tmp_path: Path, label: str) -> None:
        path = tmp_path / "confusion.png"
        plot_confusion(confusion([label, "other"], [[5, 1], [2, 7]]), path)
        picture(path)

    def test_a_font_for_chinese_is_used(
        self, tmp_path: Path, chinese_font: str
    ) -> None:
        path = tmp_path / "confusion.png"
        plot_confusion(confusion(["中", "other"], [[0, 1], [1, 0]]), path)
        pixels = picture(path)
        # The font's block, 9 points high: the only black square in the picture.
        black = (pixels < 60).all(axis=-1)
        windows = np.lib.stride_tricks.sliding_window_view(black, (10, 10))
        assert windows.all(axis=(2, 3)).any()

    @pytest.mark.parametrize(
        ("labels", "counts", "shown"),
        [
            ([], [], "0 labels"),
            (["a"], [[1, 2]], r"1 labels, counts of shape \(1, 2\)"),
        ],
    )
    def test_no_matrix(
        self, tmp_path: Path, labels: list[str], counts: Any, shown: str
    ) -> None:
        with pytest.raises(ValueError, match=shown):
            plot_confusion(confusion(labels, counts), tmp_path / "confusion.png")
        assert os.listdir(tmp_path) == []


class TestCurves:
    def test_all_curves(self, tmp_path: Path) -> None:
        plot_curves(history(5), tmp_path / "curves.png")
        pixels = picture(tmp_path / "curves.png")
        for color in (BLUE, ORANGE, GREY):
            for panel in np.array_split(pixels, 2):
                assert has_color(panel, color)
        assert os.listdir(tmp_path) == ["curves.png"]

    @pytest.mark.parametrize("num_lines", [1, 2, 300])
    def test_short_and_long(self, tmp_path: Path, num_lines: int) -> None:
        plot_curves(history(num_lines), tmp_path / "curves.png")
        assert has_color(picture(tmp_path / "curves.png"), BLUE)

    def test_other_values_are_another_picture(self, tmp_path: Path) -> None:
        lines = history(3)
        plot_curves(lines, tmp_path / "one.png")
        plot_curves(lines[::-1], tmp_path / "same.png")  # the order does not matter
        lines[1]["validation"]["accuracy"] = 0.5
        plot_curves(lines, tmp_path / "two.png")
        one, same, two = (
            (tmp_path / f"{name}.png").read_bytes() for name in ("one", "same", "two")
        )
        assert one == same != two

    def test_the_best_step_is_that_of_the_lowest_loss_or_given(
        self, tmp_path: Path
    ) -> None:
        for name, best_step in (("default", None), ("second", 200), ("third", 300)):
            plot_curves(history(3), tmp_path / f"{name}.png", best_step=best_step)
        default, second, third = (
            (tmp_path / f"{name}.png").read_bytes()
            for name in ("default", "second", "third")
        )
        assert default == second != third

    def test_training_without_validation(self, tmp_path: Path) -> None:
        lines = [{"step": k, "train_loss": 1 / k} for k in range(1, 4)]
        plot_curves([*lines, {"step": 4, "validation": None}], tmp_path / "curves.png")
        pixels = picture(tmp_path / "curves.png")
        assert has_color(pixels, ORANGE) and not has_color(pixels, BLUE)

    def test_metrics_of_another_task(self, tmp_path: Path) -> None:
        names = ("spearman", "pearson", "mean_squared_error", "a", "b", "c")
        validation = {name: 0.1 * place for place, name in enumerate(names)}
        lines = [{"step": k, "validation": validation} for k in (1, 2)]
        plot_curves(lines, tmp_path / "curves.png")
        assert has_color(picture(tmp_path / "curves.png"), BLUE)

    def test_a_loss_that_is_no_number_leaves_a_gap(self, tmp_path: Path) -> None:
        lines = history(4)
        lines[2]["train_loss"] = lines[0]["validation"]["loss"] = float("nan")
        plot_curves(lines, tmp_path / "curves.png")
        assert has_color(picture(tmp_path / "curves.png"), ORANGE)

    def test_an_empty_history(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match=r"at least one line.*\[\]"):
            plot_curves([], tmp_path / "curves.png")
        assert os.listdir(tmp_path) == []


class TestLabels:
    @pytest.mark.usefixtures("only_dejavu")
    def test_what_no_font_has_is_escaped(self) -> None:
        labels, families = drawable(["naïve", "中a", "a\tb", "x" * 40], 24)
        assert labels == ["naïve", r"\u4e2da", r"a\tb", "x" * 23 + "…"]
        assert families == [DEFAULT_FONT]

    def test_another_font_is_asked_only_where_needed(self, chinese_font: str) -> None:
        assert drawable(["中"], 24) == (["中"], [DEFAULT_FONT, chinese_font])
        assert drawable(["中文"], 24)[0] == [r"中\u6587"]
        assert drawable(["abc"], 24) == (["abc"], [DEFAULT_FONT])


def test_pyplot_is_left_alone() -> None:
    code = "import sys, kbert.plots; sys.exit('matplotlib.pyplot' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)
