"""Traefik as a process of this machine: its static configuration, and the program that runs it."""

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from headrace.adapters.local import traefik_start
from headrace.adapters.local.processes import Processes
from headrace.adapters.local.programs import Program, write_private
from headrace.adapters.traefik_rules import CLEAN, shared_middlewares
from headrace.domain.lineage import digest
from headrace.settings import HOST, Settings

NAME = "traefik"
_HEADER_BYTES = 32 * 1024

_UNENCODED_ONLY = ("Slash", "Backslash", "NullCharacter", "Semicolon", "Percent", "QuestionMark", "Hash")


def dynamic_folder(settings: Settings) -> Path:
    """Where the file provider looks; one file a model, and ours, whose name no model can have."""
    return settings.home / "traefik" / traefik_start.DYNAMIC


def written_folder(settings: Settings) -> Path:
    """Copies of the models' files, from which a Traefik that starts puts right what somebody changed."""
    return settings.home / "traefik" / traefik_start.WRITTEN


def program(settings: Settings) -> Program:
    """How Traefik is run, with its configuration written. Its binary comes with the environment that runs Headrace.

    Raises:
        Unavailable: the configuration can't be written.
    """
    binary = Path(sys.executable).parent / NAME
    folder = settings.home / "traefik"
    write_private(dynamic_folder(settings) / "_headrace.yml", yaml.safe_dump(_shared(), sort_keys=False))
    write_private(folder / "traefik.yml", yaml.safe_dump(_static(settings), sort_keys=False))
    return Program(
        NAME,
        # -I and -S, like `tether.py`: nothing in the environment changes what it imports.
        (sys.executable, "-I", "-S", traefik_start.__file__, str(binary), f"--configFile={folder / 'traefik.yml'}"),
        cwd=folder,
        # Another static configuration is another program, which has to be started anew.
        environment={"STATIC_CONFIGURATION": digest(_static(settings))},
    )


def last_words(processes: Processes) -> str:
    """What supervisord and the log say about it, for a message."""
    state = next((state for state in processes.states() if state.name == NAME), None)
    if state is None:
        return "it was never started; run `headrace up`"
    return " / ".join([state.state, *processes.log_tail(NAME, line_count=3)])


def _static(settings: Settings) -> dict[str, Any]:
    return {
        "global": {"checkNewVersion": False, "sendAnonymousUsage": False},
        "log": {"level": "INFO", "format": "json"},
        "api": {"dashboard": False},
        "ping": {"entryPoint": "admin"},
        "metrics": {"prometheus": {"entryPoint": "admin", "addRoutersLabels": True}},
        "providers": {
            "providersThrottleDuration": "50ms",
            "file": {"directory": str(dynamic_folder(settings)), "watch": True},
        },
        "entryPoints": {
            # Paths are taken as they are: tidied up, `/v1/models/a/../b/predict` would be answered by b.
            "web": _entry_point(settings.http_port, {"middlewares": [f"{CLEAN}@file"], "sanitizePath": False}),
            "admin": _entry_point(settings.admin_port, {}),
        },
        # An idle connection is given up before the service does (uvicorn: after 5 s): a POST that meets a closing
        # connection is lost, since it can't be sent twice.
        "serversTransport": {
            "forwardingTimeouts": {"dialTimeout": "1s", "responseHeaderTimeout": "30s", "idleConnTimeout": "3s"}
        },
    }


def _entry_point(port: int, http: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "address": f"{HOST}:{port}",
        "http": {
            "maxHeaderBytes": _HEADER_BYTES,
            "aliasHeadersStrategy": "reject",
            "encodedCharacters": {f"allowEncoded{name}": False for name in _UNENCODED_ONLY},
            **http,
        },
        "transport": {"respondingTimeouts": {"readTimeout": "5s", "writeTimeout": "60s", "idleTimeout": "30s"}},
    }


def _shared() -> dict[str, Any]:
    """What all models share, and the API, for this machine's own names only: no other page's script can ask it."""
    return {
        "http": {
            "routers": {
                "headrace-api": {
                    "entryPoints": ["admin"],
                    "rule": f"(Host(`{HOST}`) || Host(`localhost`)) && PathPrefix(`/api/`)",
                    "service": "api@internal",
                }
            },
            "middlewares": shared_middlewares(),
        }
    }
