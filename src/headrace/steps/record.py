"""What stays of a rollout: a page and the looks, on this machine and with the version's run."""

import json
import os
import threading
from pathlib import Path

from headrace.documents import plain
from headrace.domain.lineage import ModelVersion
from headrace.domain.rollout import RolloutState
from headrace.learning import rollout_page
from headrace.ports import Platform


def keep_record(platform: Platform, version: ModelVersion, state: RolloutState | None) -> None:
    """Write the page of a rollout that has ended, and give it to the registry; nothing without a rollout.

    Raises:
        Unavailable: the registry does not answer.
    """
    if state is None or state.version != version.version:
        return
    looks = platform.journal.looks(version.model, state.key)
    folder = platform.home / "rollouts" / version.model / state.key
    told = [plain(look) for look in looks]
    _write(folder / "looks.json", json.dumps(told, indent=1, allow_nan=False) + "\n")
    _write(folder / "rollout.html", rollout_page.render(version.model, state, looks))
    platform.registry.log_files(version.lineage.experiment_run, folder, "rollout")


def _write(path: Path, text: str) -> None:
    """All of it or nothing, also where a driver and a person's command write the same at once."""
    path.parent.mkdir(parents=True, exist_ok=True)
    # Not in the folder itself, of which everything goes to the registry.
    half = path.parent.with_name(f".{path.parent.name}.{path.name}.{os.getpid()}-{threading.get_ident()}.part")
    half.write_text(text, encoding="utf-8")
    half.replace(path)
