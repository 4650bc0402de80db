"""Fault 6 where it counts: a service that is told a public key serves what its owner signed, and nothing else.

What makes a directory signed is in test_signature.py.
"""

import contextlib
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from tests.serving.conftest import seal
from tests.serving.service_process import DEADLINE_S, Process
from tests.serving.test_process import until
from tests.serving.test_signature import sign, write_keys

VERSION = "/v2/models/flight_delay/versions/{}"


@pytest.fixture(scope="module")
def keys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with two key pairs."""
    folder = tmp_path_factory.mktemp("keys")
    for name in ("ours", "other"):
        write_keys(folder, name, ec.generate_private_key(ec.SECP256R1()))
    return folder


@pytest.fixture
def key(keys: Path) -> Path:
    return keys / "ours.pub.pem"


@pytest.fixture
def signed(directory: Path, keys: Path) -> Path:
    """A signed model directory, to damage."""
    sign(directory, keys / "ours.pem")
    return directory


@contextlib.contextmanager
def serving(directory: Path, *options: str) -> Iterator[Process]:
    service = Process(directory, *options)
    try:
        yield service.until_listening()
        assert service.stop() == 0
    finally:
        if service.process.poll() is None:
            service.process.kill()
        service.wait()
        service.close()


def refusal(directory: Path, key: Path, *options: str, exit_code: int = 6) -> str:
    """The one line that a service says before it ends."""
    command = [sys.executable, "-m", "serving", "--directory", str(directory), "--port", "0", "--public-key", str(key)]
    done = subprocess.run([*command, *options], capture_output=True, text=True, timeout=DEADLINE_S, check=False)
    assert done.returncode == exit_code, done.stderr
    assert done.stdout == ""
    said = [line for line in done.stderr.splitlines() if not line.startswith("{")]
    assert len(said) == 1, done.stderr
    assert "listening" not in done.stderr
    return said[0].removeprefix("headrace: ")


def damage(directory: Path, how: str, keys: Path) -> str:
    """Make a signed directory one that is to be refused; what will be said of it."""
    match how:
        case "unsigned":
            (directory / "model.sig").unlink()
            return "is not signed: it has no model.sig"
        case "wrong key":
            sign(directory, keys / "other.pem")
            return "was not made with the private key of"
        case "extra file":
            (directory / "extra.txt").write_text("x")
            return "extra.txt is not signed"
        case "extra file that the manifest lists":
            (directory / "model.pkl").write_bytes(b"x")
            seal(directory)
            return "is not signed"
        case "symlink":
            (directory / "model.onnx").rename(directory.parent / "elsewhere")
            (directory / "model.onnx").symlink_to(directory.parent / "elsewhere")
            return "model.onnx is a symbolic link"
        case "symlink to the signature":
            (directory / "model.sig").rename(directory.parent / "elsewhere")
            (directory / "model.sig").symlink_to(directory.parent / "elsewhere")
            return "model.sig is a symbolic link"
    raise AssertionError(how)


WAYS = (
    "unsigned",
    "wrong key",
    "extra file",
    "extra file that the manifest lists",
    "symlink",
    "symlink to the signature",
)


@pytest.mark.parametrize("how", WAYS)
def test_what_was_not_signed_like_this_is_refused_in_one_line(signed: Path, keys: Path, key: Path, how: str):
    why = damage(signed, how, keys)
    assert why in refusal(signed, key)


def test_it_is_refused_in_one_line_by_several_workers_too(signed: Path, keys: Path, key: Path):
    why = damage(signed, "unsigned", keys)
    assert why in refusal(signed, key, "--workers", "2")


def test_key_that_is_none_is_exit_2(signed: Path, keys: Path):
    assert "is not an elliptic-curve public key" in refusal(signed, keys / "ours.pem", exit_code=2)


def test_same_directory_is_served_without_a_key(signed: Path, keys: Path):
    damage(signed, "wrong key", keys)
    with serving(signed) as service:
        assert service.get("/v2/health/ready")[0] == 200


@pytest.mark.parametrize(("workers", "ways"), [(1, WAYS), (2, WAYS[:1])])
def test_signed_directory_is_served_and_goes_on_being_served_when_another_is_put_in_its_place(
    signed: Path,
    keys: Path,
    key: Path,
    tmp_path: Path,
    workers: int,
    ways: tuple[str, ...],
):
    good = shutil.copytree(signed, tmp_path / "good", symlinks=True)
    current = tmp_path / "current"
    current.symlink_to(good)
    with serving(current, "--public-key", str(key), "--workers", str(workers)) as service:
        until(lambda: said(service, "listening") == workers, "the start of all workers")
        failed = 0
        for how in ways:
            bad = tmp_path / how.replace(" ", "-") / "model"
            shutil.copytree(good, bad)
            why = damage(bad, how, keys)
            swap(current, bad, service)
            failed += workers
            until(
                lambda failed=failed: said(service, "not swapped, the version before serves on") == failed,
                f"the refusal of {how}",
            )
            reasons = [event["reason"] for event in service.events if event["event"].startswith("not swapped")]
            assert why in reasons[-1]
            assert service.get(VERSION.format(3))[0] == 200
        swap(current, another_version(good, tmp_path / "later", keys), service)
        until(lambda: b'outcome="swapped"} %d.0' % workers in service.get("/metrics")[1], "the swap")
        assert service.get(VERSION.format(4))[0] == 200


def swap(link: Path, directory: Path, service: Process) -> None:
    half = link.with_name("half")
    half.symlink_to(directory)
    half.replace(link)
    service.process.send_signal(signal.SIGHUP)


def said(service: Process, event: str) -> int:
    """How often the log says it."""
    return sum(one["event"] == event for one in service.events)


def another_version(directory: Path, to: Path, keys: Path) -> Path:
    """A later version, signed as well."""
    shutil.copytree(directory, to, ignore=shutil.ignore_patterns("model.sig"))
    manifest = to / "manifest.json"
    manifest.write_text(manifest.read_text().replace('"version": 3', '"version": 4'))
    sign(to, keys / "ours.pem")
    return to
