"""Directories of several versions, and a link to the one that is to be served, as a deployment has them."""

import hashlib
import json
import shutil
from pathlib import Path

from headrace.documents import write_json

MODEL = "flight_delay"


class Versions:
    """Versions that answer alike, below a folder.

    Attributes:
        link: what `--directory` is; it points to version 3 at first.
    """

    def __init__(self, folder: Path, source: Path) -> None:
        self._folder = folder
        self._source = source
        self.link = folder / "current"
        self.point(self.put(3))

    def put(self, version: int, model: str = MODEL) -> Path:
        """A directory for a version of a model; the same one when it is asked for again."""
        made = self._folder / f"{model}-{version}"
        if not made.exists():
            shutil.copytree(self._source, made)
            if model != MODEL:
                self._rename(made, model)
            manifest = json.loads((made / "manifest.json").read_text())
            write_json(made / "manifest.json", manifest | {"version": version, "model": model})
        return made

    def damaged(self) -> Path:
        """A directory whose model is not the recorded one."""
        made = self._folder / "damaged"
        if not made.exists():
            shutil.copytree(self._source, made)
            with (made / "model.onnx").open("ab") as file:
                file.write(b"x")
        return made

    def point(self, directory: Path) -> None:
        """Let the link be to another directory, at once."""
        new = self._folder / "new"
        new.symlink_to(directory)
        new.replace(self.link)

    @staticmethod
    def _rename(made: Path, model: str) -> None:
        contract = json.loads((made / "contract.json").read_text())
        write_json(made / "contract.json", contract | {"model": model})
        manifest = json.loads((made / "manifest.json").read_text())
        manifest["files"]["contract.json"] = hashlib.sha256((made / "contract.json").read_bytes()).hexdigest()
        write_json(made / "manifest.json", manifest)
