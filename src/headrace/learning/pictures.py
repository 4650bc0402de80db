"""The pictures of a report: how a challenger and a champion answer the same holdout."""

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.domain.contract import Contract
from headrace.domain.metrics import bins

Floats = NDArray[np.float64]
Axes = Any
"""A matplotlib Axes; the library costs a second to import, so only functions do it."""

TOP_SHARE = 0.05
_SIZE_IN, _DPI = (6.4, 4.4), 110
_COLOURS = ("#2563eb", "#d97706", "#64748b", "#059669")
_INK, _FAINT = "#1e293b", "#cbd5e1"
# More points than a picture this wide can show would only make its file larger.
_POINT_COUNT, _DOT_COUNT, _FEATURE_COUNT = 200, 1000, 15
_STEADY_SHARE = 0.002


def draw(
    contract: Contract,
    y: ArrayLike,
    predictions: Mapping[str, ArrayLike],
    values: Mapping[str, ArrayLike],
    importance: Mapping[str, float],
) -> dict[str, bytes]:
    """Draw what a task has to show.

    Args:
        contract: gives the task, and the units on the axes.
        y: labels (n_rows,), in the order of the decision times.
        predictions: model to predictions, (n_rows,) or (n_rows, n_classes), the challenger first. A model with
            a prediction that is not finite is left out.
        values: model to the business value of each answer (n_rows,); may be empty.
        importance: feature to how much the primary metric loses without it; may be empty.

    Returns:
        Title to PNG, 704 by 484 pixels.
    """
    labels = np.asarray(y, dtype=np.float64)
    arrays = {name: np.asarray(found, dtype=np.float64) for name, found in predictions.items()}
    usable = {name: found for name, found in arrays.items() if len(found) and np.isfinite(found).all()}
    plots: dict[str, Callable[[Axes], None]] = {}
    if usable:
        plots |= _task_plots(contract, labels, usable)
    worth = {name: np.asarray(found, dtype=np.float64) for name, found in values.items()}
    if any(len(found) for found in worth.values()):
        plots["Business value"] = lambda axes: _business_value(axes, contract, worth)
    if importance:
        plots["Importance"] = lambda axes: _importance(axes, contract.metric, importance)
    return {title: _png(title, plot) for title, plot in plots.items()}


def _task_plots(contract: Contract, y: Floats, found: Mapping[str, Floats]) -> dict[str, Callable[[Axes], None]]:
    unit = f", {contract.label.unit}" if contract.label.unit else ""
    if contract.task == "multiclass":
        top = {name: (found[name].max(axis=1), found[name].argmax(axis=1) == y) for name in found}
        return {
            "Confusion": lambda axes: _confusion(axes, contract.label.classes, y, found),
            "Calibration": lambda axes: _calibration(axes, top, "Probability of the likeliest class", "Share right"),
        }
    pairs = {name: (found[name], y) for name in found}
    if contract.task == "regression":
        return {
            "Predicted and observed": lambda axes: _scatter(axes, y, found, unit),
            "Residuals": lambda axes: _residuals(axes, y, found, unit),
            "Calibration": lambda axes: _calibration(axes, pairs, f"Mean prediction{unit}", f"Mean observed{unit}"),
        }
    return {
        "ROC": lambda axes: _roc(axes, y, found),
        "Precision and recall": lambda axes: _precision_recall(axes, y, found),
        "Calibration": lambda axes: _calibration(axes, pairs, "Mean prediction", "Observed share"),
        "Gain": lambda axes: _gain(axes, y, found),
    }


def _png(title: str, plot: Callable[[Axes], None]) -> bytes:
    """Through the object API: pyplot would keep every figure in a global list, and may look for a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=_SIZE_IN, dpi=_DPI, facecolor="white")
    figure.set_layout_engine("constrained", w_pad=0.12, h_pad=0.12)
    canvas = FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    axes.set_title(title, loc="left", color=_INK, fontsize=12, fontweight="bold")
    axes.grid(color="#e2e8f0", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.tick_params(colors="#475569", labelsize=9, length=0)
    for side, spine in axes.spines.items():
        spine.set_visible(side in ("left", "bottom"))
        spine.set_color(_FAINT)
    plot(axes)
    content = io.BytesIO()
    canvas.print_png(content, pil_kwargs={"optimize": True}, metadata={"Software": None})
    return content.getvalue()


def _named(axes: Axes, x: str, y: str, legend: bool = True) -> None:
    axes.set_xlabel(x, color=_INK, fontsize=9.5)
    axes.set_ylabel(y, color=_INK, fontsize=9.5)
    if legend:
        axes.legend(frameon=False, fontsize=9, labelcolor=_INK)


def _lines(axes: Axes, curves: Mapping[str, tuple[Floats, Floats]]) -> None:
    for at, (name, (x, y)) in enumerate(curves.items()):
        kept = np.unique(np.linspace(0, len(x) - 1, _POINT_COUNT).astype(int))
        axes.plot(x[kept], y[kept], color=_COLOURS[at % len(_COLOURS)], linewidth=2, label=name)


def _diagonal(axes: Axes, low: float = 0.0, high: float = 1.0) -> None:
    axes.plot([low, high], [low, high], color=_FAINT, linewidth=1.2, linestyle=(0, (4, 3)))


def _cumulative(y: Floats, prediction: Floats) -> tuple[Floats, Floats]:
    """Positives and negatives among the k highest predictions, at every k that does not split equal ones; from 0."""
    order = np.argsort(-prediction, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(prediction[order])), len(order) - 1)
    hits = np.cumsum(y[order])[ends]
    return np.append(0.0, hits), np.append(0.0, ends + 1 - hits)


def _roc(axes: Axes, y: Floats, found: Mapping[str, Floats]) -> None:
    curves = {}
    for name, prediction in found.items():
        hits, misses = _cumulative(y, prediction)
        curves[name] = misses / max(misses[-1], 1), hits / max(hits[-1], 1)
    _diagonal(axes)
    _lines(axes, curves)
    _named(axes, "False positive rate", "True positive rate")


def _precision_recall(axes: Axes, y: Floats, found: Mapping[str, Floats]) -> None:
    curves = {}
    for name, prediction in found.items():
        hits, misses = _cumulative(y, prediction)
        # Precision among the first few rows is noise that would set the scale.
        steady = hits + misses >= max(1.0, _STEADY_SHARE * len(y))
        curves[name] = (hits / max(hits[-1], 1))[steady], hits[steady] / (hits + misses)[steady]
    axes.axhline(float(y.mean()), color=_FAINT, linewidth=1.2, linestyle=(0, (4, 3)))
    _lines(axes, curves)
    axes.set_ylim(0, 1.02)
    _named(axes, "Recall", "Precision")


def _gain(axes: Axes, y: Floats, found: Mapping[str, Floats]) -> None:
    _diagonal(axes, 0, 100)
    curves = {}
    for name, prediction in found.items():
        hits, misses = _cumulative(y, prediction)
        share, caught = 100 * (hits + misses) / len(y), 100 * hits / max(hits[-1], 1)
        at_top = float(np.interp(100 * TOP_SHARE, share, caught))
        curves[f"{name}: {at_top:.1f} % in the top {100 * TOP_SHARE:g} %"] = share, caught
    axes.axvline(100 * TOP_SHARE, color=_INK, linewidth=1, linestyle=(0, (1, 2)))
    _lines(axes, curves)
    _named(axes, "Highest predictions, % of rows", "Positives among them, % of all")


def _calibration(axes: Axes, found: Mapping[str, tuple[Floats, NDArray[Any]]], x: str, y: str) -> None:
    ends = []
    for at, (name, (prediction, observed)) in enumerate(found.items()):
        position = bins(prediction)
        filled = np.unique(position)
        promised = [float(prediction[position == one].mean()) for one in filled]
        seen = [float(observed[position == one].mean()) for one in filled]
        ends += [*promised, *seen]
        axes.plot(promised, seen, "o-", color=_COLOURS[at % len(_COLOURS)], linewidth=2, markersize=5, label=name)
    _diagonal(axes, min(ends), max(ends))
    _named(axes, f"{x}, ten bins of equal count", y)


def _scatter(axes: Axes, y: Floats, found: Mapping[str, Floats], unit: str) -> None:
    kept = np.unique(np.linspace(0, len(y) - 1, _DOT_COUNT // len(found)).astype(int))
    for at, (name, prediction) in reversed(list(enumerate(found.items()))):
        colour = _COLOURS[at % len(_COLOURS)]
        axes.scatter(y[kept], prediction[kept], s=9, alpha=0.5, color=colour, linewidths=0, label=name)
    _diagonal(axes, float(y.min()), float(y.max()))
    _named(axes, f"Observed{unit}", f"Predicted{unit}")


def _residuals(axes: Axes, y: Floats, found: Mapping[str, Floats], unit: str) -> None:
    errors = {name: prediction - y for name, prediction in found.items()}
    # One wild answer would squeeze all others into a single bar.
    low, high = np.quantile(np.concatenate(list(errors.values())), [0.005, 0.995])
    edges = np.linspace(low, high if high > low else low + 1, 41)
    for at, (name, error) in enumerate(errors.items()):
        inside = np.clip(error, edges[0], edges[-1])
        colour = _COLOURS[at % len(_COLOURS)]
        axes.hist(inside, bins=edges, histtype="stepfilled", alpha=0.25, color=colour)
        axes.hist(inside, bins=edges, histtype="step", color=colour, linewidth=1.6, label=name)
    axes.axvline(0, color=_INK, linewidth=1, linestyle=(0, (1, 2)))
    _named(axes, f"Prediction less observation{unit}", "Rows")


def _confusion(axes: Axes, classes: tuple[str, ...], y: Floats, found: Mapping[str, Floats]) -> None:
    """Of the first model only: two matrices would be too small to read."""
    name, prediction = next(iter(found.items()))
    count = len(classes)
    pairs = np.bincount(y.astype(int) * count + prediction.argmax(axis=1), minlength=count**2).reshape(count, count)
    share = pairs / np.maximum(pairs.sum(axis=1, keepdims=True), 1)
    axes.grid(visible=False)
    axes.imshow(share, cmap="Blues", vmin=0, vmax=1, aspect="auto")
    for (row, column), part in np.ndenumerate(share):
        axes.text(column, row, f"{part:.0%}", ha="center", va="center", color="white" if part > 0.5 else _INK)
    axes.set_xticks(range(count), classes)
    axes.set_yticks(range(count), classes)
    _named(axes, f"Predicted by {name}", "Observed, each row is 100 %", legend=False)


def _business_value(axes: Axes, contract: Contract, worth: Mapping[str, Floats]) -> None:
    sums = {name: np.cumsum(found) for name, found in worth.items() if len(found)}
    curves = {
        f"{name}: {total[-1]:,.0f}": (100 * np.arange(1, len(total) + 1) / len(total), total)
        for name, total in sums.items()
    }
    _lines(axes, curves)
    axes.yaxis.set_major_formatter(lambda number, _: f"{number:,.0f}")
    unit = f", {contract.business_value.unit}" if contract.business_value.unit else ""
    _named(axes, "Through the holdout, % of rows", f"{contract.business_value.name}{unit}")


def _importance(axes: Axes, metric: str, importance: Mapping[str, float]) -> None:
    shown = sorted(importance.items(), key=lambda pair: pair[1])[-_FEATURE_COUNT:]
    axes.barh([name for name, _ in shown], [loss for _, loss in shown], color=_COLOURS[0], height=0.62)
    axes.grid(visible=False, axis="y")
    _named(axes, f"What the {metric} loses without the feature", "", legend=False)
