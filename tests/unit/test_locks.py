"""One holder at a time, and the second is told who."""

import os
from pathlib import Path

import pytest

from headrace.adapters.local.locks import held
from headrace.errors import Conflict


def test_the_second_is_told_what_and_who(tmp_path: Path):
    told = f"the model is being changed.*{os.getpid()}"
    with held(tmp_path / "a.lock", 0), pytest.raises(Conflict, match=told), held(tmp_path / "a.lock", 0, told[:26]):
        pytest.fail("two holders at once")


def test_a_lock_is_free_again_after_its_holder(tmp_path: Path):
    for _ in range(2):
        with held(tmp_path / "folder" / "a.lock", 0):
            pass
