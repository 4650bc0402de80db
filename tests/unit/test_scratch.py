"""What is half done is in a folder of its own, and goes, also after a kill."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from headrace.adapters.scratch import remove_abandoned, scratch_for

AT_WORK = """
import sys, time
from pathlib import Path
from headrace.adapters.scratch import scratch_for
with scratch_for(Path(sys.argv[1])) as folder:
    (folder / "half").touch()
    print("at work", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "versions" / "flight-delay-v1"


def at_work(target: Path) -> subprocess.Popen[str]:
    process = subprocess.Popen([sys.executable, "-c", AT_WORK, str(target)], stdout=subprocess.PIPE, text=True)
    assert process.stdout
    assert process.stdout.readline() == "at work\n"
    return process


def left(target: Path) -> list[str]:
    return sorted(path.name for path in target.parent.iterdir())


def test_folder_is_beside_its_target_and_gone_afterwards(target: Path):
    with scratch_for(target) as folder:
        assert folder.parent == target.parent
        assert folder.name.startswith(".flight-delay-v1-")
    assert left(target) == []


def test_folder_is_gone_after_an_error_too(target: Path):
    with pytest.raises(RuntimeError), scratch_for(target):
        raise RuntimeError
    assert left(target) == []


def test_what_a_killed_process_left_goes_and_what_others_work_in_stays(target: Path):
    killed, working = at_work(target), at_work(target)
    killed.send_signal(signal.SIGKILL)
    killed.wait()
    assert len(left(target)) == 2
    remove_abandoned(target)
    assert len(left(target)) == 1
    with scratch_for(target):
        assert len(left(target)) == 2
    working.send_signal(signal.SIGKILL)
    working.wait()
    with scratch_for(target):
        assert len(left(target)) == 1
    assert left(target) == []
    for process in (killed, working):
        assert process.stdout
        process.stdout.close()


def test_of_another_target_nothing_is_removed(target: Path):
    killed = at_work(target.with_name("flight-delay-v10"))
    killed.kill()
    killed.wait()
    assert killed.stdout
    killed.stdout.close()
    remove_abandoned(target)
    assert len(left(target)) == 1
