"""Which code is this: git's commit, and digests of the files that can change a model."""

import hashlib
import subprocess
from pathlib import Path

from headrace.domain.lineage import CodeVersion

# Everything that a trained model depends on besides data, parameters and the environment's lock.
_ROOMS = (
    "src/headrace/domain",
    "src/headrace/learning",
    "src/headrace/steps",
    "feature_repo",
    "components",
    "pipelines",
)
LOCK = "requirements/headrace.lock"
# What the build of an image, where there is no git to ask, writes of the code it was made from: a commit, with `-dirty`
# behind it if there was more than that (`git describe --always --abbrev=40 --exclude='*' --dirty`).
BUILT_FROM = "REVISION"
_DIRTY = "-dirty"


def code_version(root: Path, model: str) -> CodeVersion:
    """The version of the code that would train `model` now; works outside a git repository too."""
    commit, dirty = _built_from(root)
    return CodeVersion(
        commit=commit,
        dirty=dirty,
        content=_content(root, (*_ROOMS, f"models/{model}")),
        lock=_sha256(root / LOCK),
    )


def _built_from(root: Path) -> tuple[str, bool]:
    recorded = root / BUILT_FROM
    if recorded.is_file():
        revision = recorded.read_text().strip() or "none"
        return revision.removesuffix(_DIRTY), revision.endswith(_DIRTY)
    commit = _git(root, "rev-parse", "HEAD") or "none"
    return commit, commit != "none" and bool(_git(root, "status", "--porcelain", "--untracked-files=normal"))


def _git(root: Path, *arguments: str) -> str:
    try:
        ran = subprocess.run(["git", "-C", str(root), *arguments], capture_output=True, text=True, check=False)  # noqa: S607
    except FileNotFoundError:
        return ""
    return ran.stdout.strip() if ran.returncode == 0 else ""


def _content(root: Path, rooms: tuple[str, ...]) -> str:
    listing = hashlib.sha256()
    for room in rooms:
        for path in sorted((root / room).rglob("*")):
            if path.is_file() and path.suffix in (".py", ".yaml", ".j2") and "__pycache__" not in path.parts:
                listing.update(f"{path.relative_to(root).as_posix()} {_sha256(path)}\n".encode())
    return listing.hexdigest()


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "none"
