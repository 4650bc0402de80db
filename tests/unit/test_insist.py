"""What two processes tell MLflow in the same moment."""

import pytest
from mlflow.exceptions import MlflowException

from headrace.adapters.mlflow_reasons import insist

BOTH = MlflowException("BAD_REQUEST: (sqlite3.IntegrityError) UNIQUE constraint failed: model_version_tags.name")


@pytest.mark.parametrize(
    ("refusals", "calls", "ends"),
    [
        ([None], 1, None),
        ([BOTH, BOTH, None], 3, None),
        ([BOTH] * 5, 5, BOTH),
        ([MlflowException("no such model")], 1, "no such model"),
    ],
)
def test_it_is_told_again_where_another_said_it_too_and_only_there(refusals, calls, ends):
    told, left = [], iter(refusals)

    def call() -> None:
        told.append(1)
        refusal = next(left)
        if refusal is not None:
            raise refusal

    if ends is None:
        insist(call)
    else:
        with pytest.raises(MlflowException, match=str(ends).split("(")[0]):
            insist(call)
    assert len(told) == calls
