"""Pictures of a run: where a classifier errs, and how its training went.

They are drawn without pyplot, which keeps global state and may want a display.
"""

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.colors import PowerNorm
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from kbert.display import display_width
from kbert.files import PathLike, write_atomically
from kbert.metrics import TITLES
from kbert.plot_text import drawable

DOTS_PER_INCH = 144
MAX_CLASSES_WITH_NUMBERS = 20
MAX_CLASSES_WITH_NAMES = 60
MAX_LABEL_COLUMNS = 24

# Okabe and Ito's colours, which colour-blind people can tell apart; each line has
# its own marker besides.
_BLUE, _ORANGE, _GREEN, _PINK = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
_METRIC_STYLES = ((_BLUE, "o"), (_ORANGE, "s"), (_GREEN, "^"), (_PINK, "D"))
_MAIN_METRICS = (
    "accuracy",
    "macro_f1",
    "matthews_correlation",
    "roc_auc",
    "masked_lm_accuracy",
    "next_sentence_accuracy",
)
_NOT_DRAWN = ("loss", "num_examples")
_DARK_GREY, _LIGHT_GREY = "#666666", "#dddddd"


def plot_confusion(confusion_matrix: Mapping[str, Any], path: PathLike) -> None:
    """Draw a confusion matrix as a PNG.

    Colours are shares of the true class. Up to 20 classes, the cells show counts
    and percentages; up to 60, the axes show the classes' names.

    Args:
        confusion_matrix: `labels`, and `counts` with true classes as rows, as
            `kbert.metrics.classification_metrics` returns it.
        path: the file, replaced if it exists.

    Raises:
        ValueError: there is no class, or the counts are not square.
        OSError: the file cannot be written.
    """
    labels, counts = confusion_matrix["labels"], np.array(confusion_matrix["counts"])
    num_classes = len(labels)
    if num_classes == 0 or counts.shape != (num_classes, num_classes):
        raise ValueError(
            "`counts` must be [C, C] for C >= 1 `labels`. "
            f"Received: {num_classes} labels, counts of shape {counts.shape}"
        )
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    inches = float(np.clip(2.4 + 0.62 * num_classes, 4.4, 14.0))
    figure = Figure(figsize=(inches + 1.0, inches), layout="constrained")
    axes = figure.add_subplot()
    with_numbers = num_classes <= MAX_CLASSES_WITH_NUMBERS
    # Without numbers in the cells, the colours have to show small shares as well.
    norm = PowerNorm(1.0 if with_numbers else 0.4, vmin=0.0, vmax=1.0)
    image = axes.imshow(shares, cmap="Blues", norm=norm)
    bar = figure.colorbar(image, ax=axes, shrink=0.8, aspect=30, format="{x:.0%}")
    bar.set_label("share of the true class", labelpad=8)
    bar.outline.set_visible(False)
    axes.set_title(
        f"Confusion matrix: {counts.trace():,} of {counts.sum():,} right", pad=12
    )
    axes.spines[:].set_visible(False)
    if with_numbers:
        _fill_cells(axes, counts, shares)
    with_names = num_classes <= MAX_CLASSES_WITH_NAMES
    if with_names:
        _name_classes(axes, labels)
    unit = "class" if with_names else "class (its place in the list of labels, from 0)"
    axes.set_xlabel(f"predicted {unit}", labelpad=8)
    axes.set_ylabel(f"true {unit}", labelpad=8)
    _save(figure, path)


def plot_curves(
    history: Sequence[Mapping[str, Any]],
    path: PathLike,
    *,
    best_step: int | None = None,
    mark: str = "best",
) -> None:
    """Draw the losses and the validation metrics of a training as a PNG.

    Args:
        history: the lines of a run's history.jsonl: `step`, `epoch`, `train_loss`,
            and `validation` with `loss` and further metrics. Each but `step` may be
            absent.
        path: the file, replaced if it exists.
        best_step: the step of the checkpoint that was kept; by default the one with
            the lowest validation loss.
        mark: what that step is called.

    Raises:
        ValueError: `history` is empty.
        OSError: the file cannot be written.
    """
    if not history:
        raise ValueError("`history` must have at least one line. Received: []")
    lines = sorted(history, key=lambda line: line["step"])
    if best_step is None:
        best_step = _step_of_lowest_loss(lines)
    metrics = _metrics_to_draw(lines)
    num_panels = 2 if metrics else 1
    figure = Figure(figsize=(9.0, 1.0 + 3.2 * num_panels), layout="constrained")
    panels = figure.subplots(num_panels, 1, sharex=True, squeeze=False)[:, 0]
    if best_step is not None:
        for axes, label in zip(
            panels, (f"{mark}: step {best_step:,}", None), strict=False
        ):
            axes.axvline(best_step, color=_DARK_GREY, linestyle="--", label=label)
    _draw(panels[0], lines, ("train_loss",), "training", (_ORANGE, "s"))
    _draw(panels[0], lines, ("validation", "loss"), "validation", (_BLUE, "o"))
    _finish_panel(panels[0], "Loss", "loss")
    for name, style in zip(metrics, itertools.cycle(_METRIC_STYLES), strict=False):
        title = TITLES.get(name, name.replace("_", " "))
        _draw(panels[-1], lines, ("validation", name), title, style)
    if metrics:
        _finish_panel(panels[-1], "Validation metrics", "metric")
    _finish_steps(panels[-1], lines[-1])
    _save(figure, path)


def _name_classes(axes: Axes, labels: Sequence[str]) -> None:
    names, families = drawable(labels, MAX_LABEL_COLUMNS)
    size = 9 if len(names) <= MAX_CLASSES_WITH_NUMBERS else 7
    axes.set_xticks(range(len(names)), names)
    axes.set_yticks(range(len(names)), names)
    axes.tick_params(length=0)
    for text in (*axes.get_xticklabels(), *axes.get_yticklabels()):
        text.set(fontfamily=families, fontsize=size, parse_math=False)
    # Long names under narrow columns would run into one another.
    if max(map(display_width, names)) > 6 or len(names) > MAX_CLASSES_WITH_NUMBERS:
        for text in axes.get_xticklabels():
            text.set(rotation=45, ha="right", rotation_mode="anchor")


def _fill_cells(
    axes: Axes, counts: NDArray[np.integer], shares: NDArray[np.floating]
) -> None:
    size = 10 if len(counts) <= 8 else 7
    for (row, column), share in np.ndenumerate(shares):
        count = counts[row, column]
        color = "white" if share > 0.55 else "black" if count else _DARK_GREY
        text = f"{count:,}\n{share:.1%}" if count else "0"
        style = {"ha": "center", "va": "center", "fontsize": size, "color": color}
        axes.text(column, row, text, style)
    axes.set_xticks(np.arange(len(counts) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(counts) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)


def _draw(
    axes: Axes,
    lines: Sequence[Mapping[str, Any]],
    keys: Sequence[str],
    label: str,
    style: tuple[str, str],
) -> None:
    """Draw the values under `keys` against the step; nothing if there are none."""
    steps = [line["step"] for line in lines]
    values = [_value(line, keys) for line in lines]
    if all(map(math.isnan, values)):
        return
    color, marker = style
    every = max(1, len(steps) // 25)
    axes.plot(steps, values, color=color, marker=marker, markevery=every, label=label)


def _value(line: Mapping[str, Any], keys: Sequence[str]) -> float:
    """Return the number under `keys`, NaN (which leaves a gap) if there is none."""
    value: Any = line
    for key in keys:
        value = (value or {}).get(key)
    return math.nan if value is None else float(value)


def _metrics_to_draw(lines: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the main metrics that occur, or of another task the first that do."""
    names: dict[str, None] = {}  # in order of appearance
    for line in lines:
        for name, value in (line.get("validation") or {}).items():
            if isinstance(value, int | float) and name not in _NOT_DRAWN:
                names[name] = None
    return [name for name in _MAIN_METRICS if name in names] or list(names)


def _step_of_lowest_loss(lines: Sequence[Mapping[str, Any]]) -> int | None:
    losses = [(_value(line, ("validation", "loss")), line["step"]) for line in lines]
    finite = [pair for pair in losses if math.isfinite(pair[0])]
    return min(finite)[1] if finite else None


def _finish_panel(axes: Axes, title: str, label: str) -> None:
    axes.set_title(title, loc="left", fontweight="bold")
    axes.set_ylabel(label)
    axes.grid(color=_LIGHT_GREY, linewidth=0.8)
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(frameon=False, loc="center left", bbox_to_anchor=(1.0, 0.5))


def _finish_steps(axes: Axes, last: Mapping[str, Any]) -> None:
    """Label the axis of the steps, and of the epochs below it where they are known."""
    axes.set_xlim(0, max(1.04 * last["step"], 1.0))
    axes.set_xlabel("step")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=8))
    axes.xaxis.set_major_formatter("{x:,.0f}")
    if not last.get("epoch") or not last["step"]:
        return
    rate = last["epoch"] / last["step"]
    epochs = axes.secondary_xaxis(
        -0.24, functions=(lambda step: step * rate, lambda epoch: epoch / rate)
    )
    epochs.set_xlabel("epoch")
    epochs.spines["bottom"].set_color(_LIGHT_GREY)


def _save(figure: Figure, path: PathLike) -> None:
    FigureCanvasAgg(figure)
    with write_atomically(path) as temporary:
        figure.savefig(
            temporary,
            format="png",
            dpi=DOTS_PER_INCH,
            bbox_inches="tight",
            pad_inches=0.2,
        )
