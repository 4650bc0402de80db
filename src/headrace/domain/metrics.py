"""Metrics of a holdout as functions of row weights.

A metric is prepared once for its labels and predictions (sorting, binning) and then read for many weightings of the
same rows, which is what a bootstrap needs. A weighting under which it has no value, such as the AUC of one class,
gives NaN here; `headrace.domain.scoring` leaves it out before it could reach a document.
"""

from collections.abc import Callable, Collection, Mapping

import numpy as np
from numpy.typing import ArrayLike, NDArray

from headrace.domain.contract import Task

Floats = NDArray[np.float64]
Measure = Callable[[Floats], Floats]
"""Row weights (n_weightings, n_rows) to the metric under each, (n_weightings,)."""

BIN_COUNT = 10
BUSINESS_VALUE = "business_value"
CALIBRATION_ERROR = "calibration_error"

HIGHER_IS_BETTER = frozenset({"auc", "average_precision", "accuracy", BUSINESS_VALUE})
LOWER_IS_BETTER = frozenset({"log_loss", "brier", "rmse", "mae", CALIBRATION_ERROR})
ZERO_IS_BEST = frozenset({"calibration_gap", "bias_share"})

# What a served float32 probability can be told from 0 and 1 by; keeps the log loss of a sure and wrong answer finite.
_EDGE = float(np.finfo(np.float32).eps)
_SUM_TOLERANCE = 1e-3


def goodness(metric: str, value: Floats) -> Floats:
    """The metric turned so that more is better, whatever its own direction.

    Raises:
        ValueError: nothing is known about a metric of that name.
    """
    if metric in HIGHER_IS_BETTER:
        return value
    if metric in LOWER_IS_BETTER:
        return -value
    if metric in ZERO_IS_BEST:
        return -np.abs(value)
    raise ValueError(f"metric {metric!r} is none of {sorted(HIGHER_IS_BETTER | LOWER_IS_BETTER | ZERO_IS_BEST)}")


def measures(
    task: Task, y: ArrayLike, prediction: ArrayLike, only: Collection[str] | None = None
) -> dict[str, Measure]:
    """The metrics of a task.

    Args:
        task: decides which metrics there are.
        y: labels (n_rows,): 0 and 1, class positions, or numbers in the label's unit.
        prediction: (n_rows,) probabilities of 1 or numbers; (n_rows, n_classes) probabilities.
        only: the metrics to prepare; None: all.

    Returns:
        Metric to measure. Empty when a prediction is not finite or not a probability: such a model has no score.

    Raises:
        ValueError: shapes do not agree, or a label is impossible for the task.
    """
    y = np.asarray(y, dtype=np.float64)
    prediction = np.asarray(prediction, dtype=np.float64)
    _check(task, y, prediction)
    if not _plausible(task, prediction):
        return {}
    return {name: prepare(y, prediction) for name, prepare in _TASKS[task].items() if only is None or name in only}


def scores(task: Task, y: ArrayLike, prediction: ArrayLike) -> dict[str, float]:
    """Every metric that has a value, on rows of equal weight; arguments and errors as `measures`."""
    once = np.ones((1, np.shape(y)[0]))
    found = {name: float(read(once)[0]) for name, read in measures(task, y, prediction).items()}
    return {name: value for name, value in found.items() if np.isfinite(value)}


def losses(task: Task, y: ArrayLike, prediction: ArrayLike, span: float | None = None) -> Floats:
    """How wrong each prediction is, from 0 to 1, (n_rows,).

    Of a probability the squared error; of several, half of their squared distance to the label's corner (Brier 1950);
    of a number its distance to the label as a share of `span`, 1 at most, so that no row can outweigh all others. What
    is no number is as wrong as can be.

    Args:
        task: decides what is measured.
        y: as of `measures`.
        prediction: as of `measures`.
        span: what counts as entirely wrong for a regression, in the label's unit; above 0.

    Raises:
        ValueError: shapes do not agree, a label is impossible for the task, or a regression has no span.
    """
    y = np.asarray(y, dtype=np.float64)
    prediction = np.asarray(prediction, dtype=np.float64)
    _check(task, y, prediction)
    prediction = np.where(np.isfinite(prediction), prediction, np.nan)
    if task == "regression":
        if span is None or not span > 0:
            raise ValueError(f"a span of {span} is nothing to measure errors by")
        found = np.abs(prediction - y) / span
    elif task == "multiclass":
        found = _distance_to_corner(y, prediction) / 2
    else:
        found = (prediction - y) ** 2
    return np.clip(np.where(np.isfinite(found), found, 1.0), 0.0, 1.0)


def total(value: Floats) -> Measure:
    """The sum of a per-row value (n_rows,), in the value's unit."""
    return lambda weights: weights @ value


def _check(task: Task, y: Floats, prediction: Floats) -> None:
    dimensions = 2 if task == "multiclass" else 1
    if y.ndim != 1 or prediction.ndim != dimensions or len(prediction) != len(y):
        raise ValueError(f"{task}: labels {y.shape} do not go with predictions {prediction.shape}")
    if not np.isfinite(y).all():
        raise ValueError(f"{int((~np.isfinite(y)).sum())} of {len(y)} labels are not finite")
    classes = prediction.shape[1] if task == "multiclass" else 2
    if task != "regression" and not np.isin(y, np.arange(classes)).all():
        raise ValueError(f"{task}: a label is none of the class positions 0 to {classes - 1}")


def _plausible(task: Task, prediction: Floats) -> bool:
    if not np.isfinite(prediction).all():
        return False
    if task == "regression":
        return True
    sums_to_one = task == "binary" or bool((np.abs(prediction.sum(axis=1) - 1) <= _SUM_TOLERANCE).all())
    return sums_to_one and bool(((prediction >= 0) & (prediction <= 1)).all())


def _ratio(above: Floats, below: Floats) -> Floats:
    """NaN where there is nothing to divide by."""
    share: Floats = np.divide(above, below, out=np.full(np.shape(above), np.nan), where=below != 0)
    return share


def _mean(loss: Floats) -> Measure:
    return lambda weights: _ratio(weights @ loss, weights.sum(axis=1))


def _running(weights: Floats) -> Floats:
    """Cumulative sums that begin with 0, (n_weightings, n_rows + 1)."""
    sums = np.zeros((weights.shape[0], weights.shape[1] + 1))
    np.cumsum(weights, axis=1, out=sums[:, 1:])
    return sums


def _auc(y: Floats, prediction: Floats) -> Measure:
    """Area under the ROC curve as the Mann-Whitney statistic; a tie counts half (Hanley & McNeil 1982)."""
    negatives, positives = _ascending(y == 0, prediction), _ascending(y == 1, prediction)
    low = np.searchsorted(prediction[negatives], prediction[positives], side="left")
    high = np.searchsorted(prediction[negatives], prediction[positives], side="right")

    def read(weights: Floats) -> Floats:
        below = _running(weights[:, negatives])
        won = weights[:, positives]
        pairs = won.sum(axis=1) * below[:, -1]
        return _ratio(np.einsum("ij,ij->i", won, below[:, low] + below[:, high]) / 2, pairs)

    return read


def _average_precision(y: Floats, prediction: Floats) -> Measure:
    """Precision at each positive, averaged; equal predictions are one threshold (as scikit-learn, not interpolated)."""
    negatives, positives = _ascending(y == 0, prediction), _ascending(y == 1, prediction)
    above = np.searchsorted(prediction[negatives], prediction[positives], side="left")
    first = np.searchsorted(prediction[positives], prediction[positives], side="left")

    def read(weights: Floats) -> Floats:
        false, true = _running(weights[:, negatives]), _running(weights[:, positives])
        hits = true[:, -1:] - true[:, first]
        chosen = hits + false[:, -1:] - false[:, above]
        precision = np.divide(hits, chosen, out=np.zeros_like(hits), where=chosen != 0)
        return _ratio(np.einsum("ij,ij->i", weights[:, positives], precision), true[:, -1])

    return read


def _ascending(chosen: NDArray[np.bool_], prediction: Floats) -> NDArray[np.intp]:
    rows = np.flatnonzero(chosen)
    return rows[np.argsort(prediction[rows], kind="stable")]


def bins(prediction: ArrayLike, count: int = BIN_COUNT) -> NDArray[np.intp]:
    """Bin of each row, 0 to count - 1, of equal counts by prediction; equal predictions stay together.

    Args:
        prediction: (n_rows,).
        count: how many bins; with few distinct predictions some stay empty.
    """
    prediction = np.asarray(prediction, dtype=np.float64)
    if not len(prediction):
        return np.zeros(0, dtype=np.intp)
    inner = np.quantile(prediction, np.linspace(0, 1, count + 1)[1:-1])
    return np.searchsorted(inner, prediction, side="right")


def _binned_error(y: Floats, prediction: Floats) -> Measure:
    """Expected calibration error (Naeini, Cooper & Hauskrecht 2015) over bins of equal count.

    The bins are those of the unweighted rows. Under resampling the error only gains noise, so that its interval
    leans upwards from its value.
    """
    gaps = np.zeros((len(y), BIN_COUNT))
    gaps[np.arange(len(y)), bins(prediction)] = prediction - y
    return lambda weights: _ratio(np.abs(weights @ gaps).sum(axis=1), weights.sum(axis=1))


def _relative(read: Measure, y: Floats) -> Measure:
    """A measure of a mean, as a share of the mean label's size."""
    mean_label = _mean(y)
    return lambda weights: _ratio(read(weights), np.abs(mean_label(weights)))


def _log_loss_binary(y: Floats, prediction: Floats) -> Measure:
    sure = np.clip(np.where(y == 1, prediction, 1 - prediction), _EDGE, 1)
    return _mean(-np.log(sure))


def _log_loss_multiclass(y: Floats, prediction: Floats) -> Measure:
    return _mean(-np.log(np.clip(_of_label(y, prediction), _EDGE, 1)))


def _brier_multiclass(y: Floats, prediction: Floats) -> Measure:
    return _mean(_distance_to_corner(y, prediction))


def _distance_to_corner(y: Floats, prediction: Floats) -> Floats:
    """Squared, 0 to 2 (Brier 1950)."""
    squared: Floats = (prediction**2).sum(axis=1) - 2 * _of_label(y, prediction) + 1
    return squared


def _of_label(y: Floats, prediction: Floats) -> Floats:
    found: Floats = np.take_along_axis(prediction, y.astype(np.intp)[:, None], axis=1)[:, 0]
    return found


def _right(y: Floats, prediction: Floats) -> Floats:
    return np.asarray(prediction.argmax(axis=1) == y, dtype=np.float64)


def _root(read: Measure) -> Measure:
    return lambda weights: np.sqrt(read(weights))


_TASKS: Mapping[str, Mapping[str, Callable[[Floats, Floats], Measure]]] = {
    "binary": {
        "auc": _auc,
        "average_precision": _average_precision,
        "log_loss": _log_loss_binary,
        "brier": lambda y, p: _mean((p - y) ** 2),
        CALIBRATION_ERROR: _binned_error,
        "calibration_gap": lambda y, p: _mean(p - y),
    },
    "multiclass": {
        "accuracy": lambda y, p: _mean(_right(y, p)),
        "log_loss": _log_loss_multiclass,
        "brier": _brier_multiclass,
        CALIBRATION_ERROR: lambda y, p: _binned_error(_right(y, p), p.max(axis=1)),
    },
    "regression": {
        "rmse": lambda y, p: _root(_mean((p - y) ** 2)),
        "mae": lambda y, p: _mean(np.abs(p - y)),
        "bias_share": lambda y, p: _relative(_mean(p - y), y),
        CALIBRATION_ERROR: lambda y, p: _relative(_binned_error(y, p), y),
    },
}
