"""What MLflow's client says of a failure, in a line that a person reads to the end."""

from collections.abc import Callable

_TRIES = 5
# SQLAlchemy's name for it, over every database.
_BOTH_INSERTED = "IntegrityError"
_DOWNLOADS = "The following failures occurred while downloading"
_CAUSE = "(Caused by "
_CHARS = 300


def reason(failed: Exception) -> str:
    """Why a request failed.

    MLflow names the address twice before it comes to the cause, and of a download that failed it says the file and the
    cause only in the lines after the first.
    """
    lines = [line.strip() for line in str(failed).splitlines() if line.strip()] or [type(failed).__name__]
    if lines[0].startswith(_DOWNLOADS) and len(lines) > 2:
        return f"{lines[1].strip('# ').removeprefix('File ')}: {_cause(lines[2])}"[:_CHARS]
    return _cause(lines[0])[:_CHARS]


def insist(call: Callable[[], object]) -> None:
    """Call again what sets a tag or an alias, where another process has set it in the same moment.

    MLflow inserts what it did not find, and of two that do so the database refuses one.
    """
    from mlflow.exceptions import MlflowException

    for left in reversed(range(_TRIES)):
        try:
            call()
        except MlflowException as refused:
            if not left or _BOTH_INSERTED not in str(refused):
                raise
        else:
            return


def _cause(line: str) -> str:
    return line.rpartition(_CAUSE)[2].removesuffix(")") if _CAUSE in line else line
