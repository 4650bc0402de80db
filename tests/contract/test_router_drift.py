"""What the Router port says of weights that somebody else changed, and how they are put right."""

import threading
from pathlib import Path
from typing import Any

import pytest

from headrace.adapters.local import traefik
from headrace.adapters.local.processes import Processes
from headrace.adapters.local.traefik_router import TraefikRouter
from headrace.domain.split import Split
from headrace.errors import IntegrityError, Unavailable
from headrace.settings import Settings
from tests.contract.conftest import MODEL, eventually
from tests.contract.routers import Harness, Local
from tests.contract.traffic import Traffic


def said(local: Local) -> str:
    """How the route differs, once it does."""
    eventually(lambda: local.router.drifted(MODEL) is not None)
    return local.router.drifted(MODEL) or ""


def test_model_without_a_route_has_not_drifted(harness: Harness) -> None:
    assert harness.router.drifted(MODEL) is None


def test_change_by_hand_is_told_and_put_right_by_a_write(harness: Harness) -> None:
    harness.run(3, 4)
    route = harness.router.write(MODEL, Split(3, 4, 10), seen=0, note="")
    assert harness.router.drifted(MODEL) is None
    harness.edit()
    assert harness.router.drifted(MODEL)
    assert harness.router.read(MODEL) == route
    harness.router.write(MODEL, route.split, seen=1, note="put right")
    assert harness.router.drifted(MODEL) is None


def test_edited_weights_are_told_beside_the_recorded_ones(local: Local) -> None:
    local.run(3, 4)
    local.router.write(MODEL, Split(3, 4, 10), seen=0, note="")
    local.edit()
    assert "says v3 50 %, v4 50 %, but v3 90 %, v4 10 % was recorded" in said(local)


def _without_a_mirror(http: dict[str, Any]) -> None:
    http["routers"][MODEL]["service"] = MODEL


def _with_fewer_copies(http: dict[str, Any]) -> None:
    http["services"][f"{MODEL}-mirrored"]["mirroring"]["mirrors"][0]["percent"] = 30


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (_without_a_mirror, "Traefik holds v3 100 %, not"),
        (_with_fewer_copies, "Traefik holds v3 100 %, v4 shadows 30 %, not"),
    ],
)
def test_mirror_that_was_changed_by_hand_is_told_and_put_right(local: Local, change: Any, told: str) -> None:
    local.run(3, 4)
    route = local.router.write(MODEL, Split(3, shadow=4, shadow_pct=100), seen=0, note="")
    assert local.router.drifted(MODEL) is None
    local.change(change)
    # Already before Traefik has read the change.
    assert local.router.drifted(MODEL) is not None
    eventually(lambda: f"{told} v3 100 %, v4 shadows 100 %" in said(local))
    local.router.write(MODEL, route.split, seen=1, note="put right")
    assert local.router.drifted(MODEL) is None


def test_any_other_change_below_the_record_is_told_even_while_traefik_is_silent(
    local: Local, processes: Processes
) -> None:
    local.run(3)
    local.router.write(MODEL, Split(3, sticky=True), seen=0, note="")
    processes.remove(traefik.NAME)
    assert local.router.drifted(MODEL) is None
    local.change(lambda http: http["services"][MODEL]["weighted"].pop("sticky"))
    assert "was changed by hand" in said(local)


def test_file_that_is_gone_is_no_route_and_the_next_write_is_the_first(local: Local) -> None:
    local.run(3)
    local.router.write(MODEL, Split(3), seen=0, note="")
    local.file.unlink()
    assert local.router.read(MODEL) is None
    assert local.router.drifted(MODEL) is None
    assert list(local.router.models()) == []
    assert local.router.write(MODEL, Split(3), seen=0, note="").generation == 1
    assert local.router.drifted(MODEL) is None


def test_write_that_is_under_way_is_no_change_by_hand(local: Local) -> None:
    local.run(3, 4)
    route = local.router.write(MODEL, Split(3), seen=0, note="")
    over = threading.Event()
    found: list[str | None] = []

    def look() -> None:
        while not over.is_set():
            found.append(local.router.drifted(MODEL))

    looking = threading.Thread(target=look)
    looking.start()
    try:
        for pct in range(5, 25):
            route = local.router.write(MODEL, Split(3, 4, pct), seen=route.generation, note="")
    finally:
        over.set()
        looking.join()
    assert found
    assert set(found) == {None}


def test_write_right_after_an_edit_by_hand_waits_for_the_write_itself(local: Local) -> None:
    local.run(3, 4)
    route = local.router.write(MODEL, Split(3, 4, 10), seen=0, note="")
    for _ in range(10):
        local.edit()
        # Traefik still holds the wanted weights now. It would come to the edit, and to the write only after it.
        route = local.router.write(MODEL, route.split, seen=route.generation, note="")
        held = local.router._held(MODEL)
        assert held is not None
        assert held.generation == route.generation
        assert [local.router.drifted(MODEL) for _ in range(20)] == [None] * 20


def test_half_written_file_keeps_the_last_weights_and_a_write_puts_it_right(local: Local) -> None:
    local.run(3, 4)
    route = local.router.write(MODEL, Split(3, 4, 10), seen=0, note="")
    with Traffic(local.router.url(MODEL), MODEL) as traffic:
        local.replace(local.file.read_text()[:700])
        assert "says no weights any more" in said(local)
        traffic.wait_for(50)
        assert local.router.read(MODEL) == route
        local.router.write(MODEL, Split(4), seen=1, note="")
        traffic.mark()
        traffic.wait_for(20)
    assert traffic.lost == []
    assert local.router.drifted(MODEL) is None


def test_lost_record_is_an_error_that_says_what_to_do(local: Local) -> None:
    local.run(3)
    local.router.write(MODEL, Split(3), seen=0, note="")
    whole = local.file.read_text()
    newer = whole.replace('"schema_version": 2', '"schema_version": 3')
    for text, match in (("", "no record"), (whole[:30], "can't be read"), (newer, "newer Headrace")):
        local.file.write_text(text)
        with pytest.raises(IntegrityError, match=match):
            local.router.read(MODEL)
        with pytest.raises(IntegrityError):
            local.router.drifted(MODEL)
        with pytest.raises(IntegrityError):
            local.router.write(MODEL, Split(3), seen=1, note="")
    local.file.unlink()
    assert local.router.write(MODEL, Split(3), seen=0, note="").generation == 1


def test_another_models_broken_file_is_named_when_it_stops_a_write(
    local: Local, settings: Settings, processes: Processes
) -> None:
    local.run(3, 4)
    local.router.write(MODEL, Split(3), seen=0, note="")
    broken: Path = traefik.dynamic_folder(settings) / "other.yml"
    broken.write_text("http: [")
    impatient = TraefikRouter(settings, processes, local.router._urls, timeout_s=1.0)
    with pytest.raises(Unavailable, match=r"but v3 100 %.*other\.yml"):
        impatient.write(MODEL, Split(3, shadow=4, shadow_pct=50), seen=1, note="")
    assert said(local) == "Traefik holds v3 100 %, not v3 100 %, v4 shadows 50 %"
    broken.unlink()
    assert impatient.write(MODEL, Split(4), seen=2, note="").split == Split(4)
    assert local.router.drifted(MODEL) is None
