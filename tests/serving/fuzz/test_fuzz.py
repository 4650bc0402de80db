"""Whatever bytes come, the readers of requests say what is wrong with them in their own words.

Bounded, so that it is done in seconds; to look longer: ``python -m tests.serving.fuzz.targets rows FOLDER``.
"""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("atheris", reason="atheris has no package for this machine or Python")

RUNS = 6000
DEADLINE_S = 120


@pytest.mark.parametrize("target", ["rows", "infer_json", "infer_binary", "labels", "context"])
def test_nothing_else_than_a_refusal_comes_out(target: str, tmp_path: Path) -> None:
    corpus = tmp_path / "corpus"
    corpus.mkdir()
    flags = [f"-runs={RUNS}", "-max_len=1500", "-timeout=60", "-seed=1", f"-artifact_prefix={tmp_path}/", str(corpus)]
    command = [sys.executable, "-m", "tests.serving.fuzz.targets", target, *flags]
    done = subprocess.run(command, capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    found = {path.name: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr[-3000:]}\n{found}"
    assert found == {}
    assert f"Done {RUNS} runs" in done.stderr
