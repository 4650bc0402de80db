"""What is said of a request to MLflow that failed."""

import pytest

from headrace.adapters.mlflow_reasons import reason

REFUSED = "NewConnectionError('Failed to establish a new connection: [Errno 111] Connection refused')"
REQUEST = (
    f"API request to http://a/b failed with exception HTTPConnectionPool(host='a'): Max retries (Caused by {REFUSED})"
)
DOWNLOAD = "The following failures occurred while downloading one or more artifacts from http://a/b:"


@pytest.mark.parametrize(
    ("said", "told"),
    [
        (REQUEST, REFUSED),
        (
            f"{DOWNLOAD}\n##### File m/model.onnx #####\n404 Client Error: Not Found",
            "m/model.onnx: 404 Client Error: Not Found",
        ),
        (f"{DOWNLOAD}\n##### File model.onnx #####\n{REQUEST}\n##### File x #####\n…", f"model.onnx: {REFUSED}"),
        (DOWNLOAD, DOWNLOAD),
        ("one\ntwo", "one"),
        ("", "ValueError"),
        ("a" * 1000, "a" * 300),
    ],
)
def test_the_cause_is_said_in_one_line(said: str, told: str):
    assert reason(ValueError(said)) == told
