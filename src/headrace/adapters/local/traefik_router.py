"""The Router port on Traefik's file provider: one file a model holds its weights and the state of its rollout."""

import json
import re
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from headrace.adapters.local import locks, loopback, traefik, traefik_route
from headrace.adapters.local.processes import Processes
from headrace.adapters.local.programs import write_private
from headrace.adapters.local.traefik_route import Held
from headrace.adapters.traefik_rules import require_running, shadows, told, unwritten_since
from headrace.domain.rollout import RolloutState
from headrace.domain.split import Split, describe, told_weights
from headrace.errors import Conflict, Unavailable, UsageError
from headrace.ports import Route
from headrace.settings import HOST, Settings

Urls = Callable[[str], Mapping[int, str]]

_MODEL = re.compile(r"[a-z][a-z0-9_]*")
_LOCK_S = 10.0
_POLL_S = 0.02


class TraefikRouter:
    """Traffic weights in ``home/traefik/dynamic/<model>.yml``.

    Args:
        settings: says where the files are and where Traefik listens.
        processes: asked why, when Traefik is silent.
        urls: the running versions of a model and where they answer.
        timeout_s: how long Traefik may take to hold what was written.
    """

    def __init__(self, settings: Settings, processes: Processes, urls: Urls, timeout_s: float = 10.0) -> None:
        self._settings = settings
        self._processes = processes
        self._urls = urls
        self._timeout_s = timeout_s
        self._folder = traefik.dynamic_folder(settings)

    def read(self, model: str) -> Route | None:
        """What was last written by `write`; None when the model has no route yet.

        Raises:
            IntegrityError: the file is not one that `write` made, or a newer Headrace's.
        """
        path = self._path(model)
        return traefik_route.route(path) if path.exists() else None

    def write(self, model: str, split: Split, seen: int, note: str, rollout: RolloutState | None = None) -> Route:
        """Replace the split, and with it the addresses of the running versions; then wait until Traefik holds both.

        Also puts right what somebody changed in the file by hand.

        Raises:
            Conflict: the generation is no longer `seen`; nothing was changed.
            Unavailable: Traefik is silent or a version does not run, and nothing was changed; or Traefik does not
                take the file over in time, and the message says what it holds: then `read` gives the new route.
        """
        with locks.held(self._lock(model), _LOCK_S):
            before = self.read(model)
            generation = unwritten_since(model, before, seen)
            urls = self._addresses(model, split)
            self._wait_until_it_answers(model)
            route = Route(model, split, generation + 1, note, rollout)
            text = traefik_route.render(route, urls)
            # The copy first: what Traefik holds is never newer than what it is put right from.
            write_private(self._copy(model), text)
            write_private(self._path(model), text)
            self._wait_until_held(model, Held(split.weights, urls, route.generation, shadows(split)))
            return route

    def models(self) -> Sequence[str]:
        """The models that have a route, by name."""
        return sorted(path.stem for path in self._folder.glob("*.yml") if _MODEL.fullmatch(path.stem))

    def url(self, model: str) -> str:
        """Where clients reach all models: Traefik's address, without a path."""
        return f"http://{HOST}:{self._settings.http_port}"

    def drifted(self, model: str) -> str | None:
        """What differs between the recorded split and the file or Traefik, in a sentence; None when nothing does.

        Raises:
            IntegrityError: the record itself can't be read.
        """
        found = self._drift(model)
        if found is None:
            return None
        try:
            # A write that is under way is no edit by hand: what differs has to differ still once it is over.
            with locks.held(self._lock(model), _LOCK_S):
                return self._drift(model)
        except (Conflict, Unavailable):
            return found

    def _drift(self, model: str) -> str | None:
        route = self.read(model)
        if route is None:
            return None
        in_file = traefik_route.weights(self._path(model))
        if in_file is None:
            return f"{self._path(model)} was changed by hand and says no weights any more"
        recorded = describe(route.split)
        if in_file != route.split.weights:
            return f"{self._path(model)} says {told_weights(in_file)}, but {recorded} was recorded"
        held = self._held(model)
        if held is not None and (held.weights, held.shadows) != (route.split.weights, shadows(route.split)):
            return f"Traefik holds {told(held.weights, held.shadows)}, not {recorded}"
        if traefik_route.altered(self._path(model), self._copy(model)):
            return f"{self._path(model)} was changed by hand: below its record it is not what was written"
        return None

    def _path(self, model: str) -> Path:
        if not _MODEL.fullmatch(model):
            raise UsageError(f"{model!r} is not the name of a model: it is in snake_case")
        return self._folder / f"{model}.yml"

    def _copy(self, model: str) -> Path:
        return traefik.written_folder(self._settings) / f"{model}.yml"

    def _lock(self, model: str) -> Path:
        return self._folder.parent / f"{model}.lock"

    def _addresses(self, model: str, split: Split) -> Mapping[int, str]:
        urls = self._urls(model)
        require_running(model, split, urls)
        return urls

    def _held(self, model: str) -> Held | None:
        answer = loopback.get(f"http://{HOST}:{self._settings.admin_port}/api/rawdata", timeout_s=2.0)
        if answer is None or answer.status != 200:
            return None
        try:
            return traefik_route.held(json.loads(answer.body), model)
        except ValueError:
            return None

    def _wait_until_it_answers(self, model: str) -> None:
        """A Traefik that was just started answers pings before it has read the file that opens its API."""
        deadline = time.monotonic() + self._timeout_s
        while self._held(model) is None:
            if time.monotonic() >= deadline:
                raise Unavailable(
                    f"Traefik does not answer, nothing was changed: {traefik.last_words(self._processes)}"
                )
            time.sleep(_POLL_S)

    def _wait_until_held(self, model: str, wanted: Held) -> None:
        deadline = time.monotonic() + self._timeout_s
        while (held := self._held(model)) != wanted:
            if time.monotonic() >= deadline:
                now = told(held.weights, held.shadows) if held else "nothing, it does not answer"
                what = told(wanted.weights, wanted.shadows)
                raise Unavailable(
                    f"Traefik does not hold {what} of {model} within {self._timeout_s:g} s but "
                    f"{now}: {traefik.last_words(self._processes)}{self._obstacles()}"
                )
            time.sleep(_POLL_S)

    def _obstacles(self) -> str:
        """Traefik takes over all files or none: another model's broken file stops this one's."""
        broken = [str(path) for path in self._folder.glob("*.yml") if not traefik_route.parses(path)]
        return f"; broken files stop it from reading any: {', '.join(sorted(broken))}" if broken else ""
