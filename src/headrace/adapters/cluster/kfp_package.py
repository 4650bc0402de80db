"""A compiled pipeline as it is submitted: which steps it has, and in which image they run."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.domain.lineage import digest
from headrace.errors import UsageError


class Package:
    """A compiled pipeline, with every step in `image`; an empty one keeps the image that was compiled in.

    Raises:
        UsageError: there is no such file, or it is no compiled pipeline.
    """

    def __init__(self, path: Path, image: str = "") -> None:
        import yaml

        if not path.is_file():
            raise UsageError(f"the compiled pipeline {path} is not there: `python -m pipelines.compile` writes it")
        try:
            self._documents = list(yaml.safe_load_all(path.read_text()))
            self._spec: dict[str, Any] = self._documents[0]
            for executor in self._spec["deploymentSpec"]["executors"].values():
                if image:
                    executor["container"]["image"] = image
            self.steps = frozenset(self._tasks(self._spec["root"]["dag"]))
        except (yaml.YAMLError, LookupError, TypeError, AttributeError) as wrong:
            raise UsageError(
                f"{path} is no compiled pipeline ({type(wrong).__name__}: {wrong}): "
                "`python -m pipelines.compile` writes it"
            ) from wrong

    @property
    def id(self) -> str:
        """Digest of all of it, the image included."""
        return digest(self._documents)

    def text(self) -> str:
        """As YAML, which KFP reads."""
        import yaml

        return yaml.safe_dump_all(self._documents, sort_keys=True)

    def _tasks(self, dag: Any) -> Iterator[str]:
        """The names of the tasks that run a container, in conditions too."""
        for name, task in dag["tasks"].items():
            component = self._spec["components"][task["componentRef"]["name"]]
            if "executorLabel" in component:
                yield name
            else:
                yield from self._tasks(component["dag"])
