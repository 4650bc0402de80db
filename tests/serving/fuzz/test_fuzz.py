"""A bounded run of every fuzz target; see `targets` for longer ones."""

import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

RUNS = 40_000
TARGETS = ("rows", "infer", "infer_binary", "labels", "context")


@pytest.mark.skipif(
    importlib.util.find_spec("atheris") is None, reason="atheris has no wheel for this Python or machine"
)
@pytest.mark.parametrize("target", TARGETS)
def test_parser_only_returns_or_refuses(target, tmp_path: Path):
    found = tmp_path / "found"
    found.mkdir()
    options = [f"-runs={RUNS}", "-seed=1", "-max_len=2048", "-timeout=20", f"-artifact_prefix={tmp_path}/"]
    command = [sys.executable, "-m", "tests.serving.fuzz.targets", target, *options, str(found)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False, errors="replace")
    crash = "\n".join(line for line in done.stdout.splitlines()[-40:])
    assert done.returncode == 0, f"{crash}\n{done.stderr[-3000:]}"
    assert re.search(rf"Done {RUNS} runs", done.stderr)
