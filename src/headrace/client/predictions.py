"""What a model service answers, as values."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, assert_never

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True)
class BinaryPrediction:
    """What a binary model says of one row.

    Attributes:
        id: names the prediction, so that its label can be joined later.
        probability: of the label being true, 0 to 1.
    """

    id: str
    probability: float


@dataclass(frozen=True)
class RegressionPrediction:
    """What a regression model says of one row.

    Attributes:
        id: names the prediction, so that its label can be joined later.
        value: in the unit of the label.
    """

    id: str
    value: float


@dataclass(frozen=True)
class MulticlassPrediction:
    """What a multiclass model says of one row.

    Attributes:
        id: names the prediction, so that its label can be joined later.
        probabilities: class to its probability, 0 to 1.
    """

    id: str
    probabilities: Mapping[str, float]


Prediction = BinaryPrediction | RegressionPrediction | MulticlassPrediction


@dataclass(frozen=True)
class Predictions:
    """One model version's predictions, in the order of the rows.

    Attributes:
        model: who answered.
        version: which version of it; one for all rows, however many batches they took.
        items: one a row, all of one class.
        index: the index of the DataFrame that was sent, else None.
    """

    model: str
    version: int
    items: tuple[Prediction, ...]
    index: "pd.Index[Any] | None" = field(default=None, repr=False, compare=False)

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Prediction]:
        return iter(self.items)

    def to_frame(self) -> "pd.DataFrame":
        """A DataFrame with a line for each row, and the index of the DataFrame that was sent.

        Its columns are ``id`` and ``probability``, ``value`` or, of a multiclass model, ``probability_CLASS``.
        """
        import pandas as pd

        return pd.DataFrame([_cells(item) for item in self.items], index=self.index)

    def to_dict(self) -> dict[str, Any]:
        """The answer as the service says it: ``{"model", "version", "predictions": [...]}``."""
        items = [{**vars(item)} for item in self.items]
        return {"model": self.model, "version": self.version, "predictions": items}


def _cells(item: Prediction) -> dict[str, Any]:
    match item:
        case BinaryPrediction():
            return {"id": item.id, "probability": item.probability}
        case RegressionPrediction():
            return {"id": item.id, "value": item.value}
        case MulticlassPrediction():
            return {"id": item.id, **{f"probability_{name}": p for name, p in item.probabilities.items()}}
        case _:
            assert_never(item)


@dataclass(frozen=True)
class Tensor:
    """One input or output of a model, in the words of the Open Inference Protocol; -1 is any length."""

    name: str
    datatype: str
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Metadata:
    """What a model takes and gives.

    Attributes:
        versions: those that answer at the address, as text.
        platform: what runs the model.
        inputs: the features.
        outputs: what a prediction has beside its id.
    """

    name: str
    versions: tuple[str, ...]
    platform: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
