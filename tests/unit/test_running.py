"""What surrounds a step."""

import errno
import json

import pytest

from headrace import running
from headrace.errors import DataError
from headrace.ports import StepEvent


def events(text: str) -> list[tuple[StepEvent, str]]:
    return [found for line in text.splitlines() if (found := running.parse(line))]


def test_a_step_says_when_it_starts_and_ends(capsys: pytest.CaptureFixture[str]):
    with running.step("train"):
        running.progress("train", "half way")
    seen = events(capsys.readouterr().err)
    assert [(event.state, event.message) for event, _ in seen] == [
        ("started", ""),
        ("progress", "half way"),
        ("succeeded", ""),
    ]


def test_a_failed_step_ends_with_its_errors_class_and_code(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended, running.step("prepare"):
        raise DataError('column "x" is missing')
    assert ended.value.code == DataError.exit_code
    event, error = events(capsys.readouterr().err)[-1]
    assert (event.state, event.message, error) == ("failed", 'column "x" is missing', "DataError")


def test_a_full_disk_is_said_as_such(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(SystemExit) as ended, running.step("train"):
        raise OSError(errno.ENOSPC, "No space left on device", "/data/model.onnx")
    assert ended.value.code == 4
    event, error = events(capsys.readouterr().err)[-1]
    assert error == "Unavailable"
    assert "/data/model.onnx" in event.message


def test_a_defect_is_told_and_raised(capsys: pytest.CaptureFixture[str]):
    with pytest.raises(ZeroDivisionError), running.step("train"):
        raise ZeroDivisionError("by zero")
    assert "ZeroDivisionError: by zero" in events(capsys.readouterr().err)[-1][0].message


def test_an_event_is_found_behind_an_indent_and_nothing_else_is(capsys: pytest.CaptureFixture[str]):
    running.progress("train", "x")
    line = capsys.readouterr().err
    assert running.parse("    " + line) == (StepEvent("train", "progress", "x"), "")
    for other in ("", "text", '{"time": 1', json.dumps({"time": 1, "event": "another"})):
        assert running.parse(other) is None


def test_a_step_in_its_callers_process_is_heard_by_the_caller(capsys: pytest.CaptureFixture[str]):
    heard: list[StepEvent] = []
    with running.heard_by(heard.append):
        running.progress("deploy", "x")
    running.progress("deploy", "y")
    assert [event.message for event in heard] == ["x"]
    assert len(events(capsys.readouterr().err)) == 1
