"""What the Dockerfiles must keep to, without building them."""

import functools
import re
import subprocess
import tomllib
from pathlib import Path
from sysconfig import get_path

import pytest

from tests.cluster.images.catalog import copied

ROOT = Path(__file__).parents[2]
OURS = ["components/Dockerfile", "infra/images/mlflow/Dockerfile", "serving/Dockerfile"]
ALL = sorted(str(path.relative_to(ROOT)) for path in ROOT.glob("tests/cluster/images/*.Dockerfile")) + OURS
LOCKS = ["components", "mlflow", "serving"]


def stages(dockerfile: str) -> list[str]:
    """Its stages, continued lines joined."""
    text = (ROOT / dockerfile).read_text().replace("\\\n", " ")
    return [f"FROM {stage}" for stage in re.split(r"^FROM ", text, flags=re.M)[1:]]


@functools.cache
def pins(lock: str) -> dict[tuple[str, str], set[str]]:
    """(package, version) to its hashes."""
    found: dict[tuple[str, str], set[str]] = {}
    current: set[str] = set()
    for line in (ROOT / f"requirements/{lock}.lock").read_text().splitlines():
        if named := re.match(r"([a-z0-9.-]+)(?:\[[a-z0-9,-]+\])?==([^ ]+)", line):
            current = found.setdefault((named[1], named[2]), set())
        elif hashed := re.search(r"--hash=(sha256:[0-9a-f]{64})", line):
            current.add(hashed[1])
    return found


def names(lock: str) -> set[str]:
    return {name for name, _ in pins(lock)}


@pytest.mark.parametrize("dockerfile", ALL)
def test_hadolint_has_nothing_to_say(dockerfile):
    program = Path(get_path("scripts")) / "hadolint"
    said = subprocess.run([program, dockerfile], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (said.returncode, said.stdout, said.stderr) == (0, "", "")


@pytest.mark.parametrize("dockerfile", OURS)
def test_every_image_from_elsewhere_is_an_argument_with_a_digest(dockerfile):
    text = (ROOT / dockerfile).read_text()
    defaults = dict(re.findall(r"^ARG (\w+_IMAGE)=(\S+)$", text, re.M))
    earlier = set()
    for source, _, name in re.findall(r"^FROM (\S+)( AS (\w+))?$", text, re.M):
        if source not in earlier:
            argument = source.removeprefix("${").removesuffix("}")
            assert re.fullmatch(r"docker\.io/[a-z/-]+:[\w.-]+@sha256:[0-9a-f]{64}", defaults[argument])
        earlier.add(name)


def test_images_have_one_base():
    assert len({re.search(r"^ARG BASE_IMAGE=.*$", (ROOT / one).read_text(), re.M)[0] for one in OURS}) == 1


@pytest.mark.parametrize("dockerfile", OURS)
def test_nothing_is_installed_in_the_stage_that_is_shipped(dockerfile):
    shipped = stages(dockerfile)[-1]
    assert re.search(r"^USER 10001:10001$", shipped, re.M)
    assert not re.search(r"apt-get|pip install|uv pip|--mount", shipped)


@pytest.mark.parametrize("dockerfile", OURS)
def test_packages_come_from_locks_with_hashes(dockerfile):
    text = (ROOT / dockerfile).read_text().replace("\\\n", " ")
    installs = re.findall(r"pip (?:install|sync)\b.*", text)
    assert len(installs) == 2
    assert all("--require-hashes" in one and ".lock" in one for one in installs)


@pytest.mark.parametrize("dockerfile", OURS)
def test_our_code_is_copied_after_the_libraries(dockerfile):
    """Else every change of it would be a new layer of libraries."""
    shipped = stages(dockerfile)[-1]
    libraries, code = shipped.find("--from=libraries"), shipped.find("--from=code")
    assert libraries > 0
    assert code == -1 or libraries < code


@pytest.mark.parametrize("dockerfile", OURS)
def test_what_is_copied_is_let_through_by_dockerignore(dockerfile):
    allowed = [line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")]
    for source in copied((ROOT / dockerfile).read_text()):
        within = (Path(source), *Path(source).parents)
        assert any(path.match(rule) for path in within for rule in allowed), source


def test_everything_is_ignored_but_for_a_list():
    lines = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if not line.startswith("#")]
    assert lines[0] == "*"


@pytest.mark.parametrize("lock", LOCKS)
def test_an_image_has_the_versions_of_the_project(lock):
    for pin, hashes in pins(lock).items():
        assert hashes, f"{pin} has no hash"
        if pin[0] in names("headrace"):
            assert pin in pins("headrace"), f"{pin} of {lock}.lock is not in headrace.lock: `make lock`"
            assert hashes <= pins("headrace")[pin]


@pytest.mark.parametrize(
    ("lock", "extras"), [("serving", ("serving", "redis", "signing", "tracing")), ("components", ("cluster",))]
)
def test_an_image_has_what_its_extras_name(lock, extras):
    declared = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    named, waiting = set(), list(extras)
    while waiting:
        for requirement in declared[waiting.pop()]:
            name, inner = re.match(r"([\w.-]+)(?:\[([\w,-]+)\])?", requirement).groups()
            if name == "headrace":
                waiting += inner.split(",")
            else:
                named.add(name.lower().replace("_", "-"))
    assert named <= names(lock)


@pytest.mark.parametrize("lock", LOCKS)
def test_no_lock_of_an_image_brings_an_installer(lock):
    assert names(lock).isdisjoint({"pip", "uv", "wheel", "virtualenv"})
