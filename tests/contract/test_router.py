"""The Router port: the fake, and a real Traefik in front of real processes."""

import json
import signal
from collections.abc import Callable, Mapping
from typing import Any

import psutil
import pytest

from headrace.adapters.local import traefik
from headrace.adapters.local.processes import Processes
from headrace.adapters.local.traefik_router import TraefikRouter
from headrace.adapters.local.traefik_start import PREFIX
from headrace.adapters.traefik_rules import BODY_BYTES
from headrace.domain.evidence import Counts, Expected
from headrace.domain.rollout import RolloutState, advanced, begin
from headrace.domain.rollout_policy import RolloutPolicy, RolloutStep
from headrace.domain.split import Split
from headrace.errors import Conflict, HeadraceError, Unavailable, UsageError
from headrace.ports import Route
from headrace.settings import HOST, Settings
from headrace.telemetry import ROLE_HEADER
from tests.contract.conftest import MODEL, eventually
from tests.contract.routers import Harness, Local
from tests.contract.traffic import Traffic, ask, client, post, status


def test_model_without_a_route_has_none(harness: Harness) -> None:
    assert harness.router.read(MODEL) is None
    assert list(harness.router.models()) == []


def test_written_route_is_read_back_and_counts_generations(harness: Harness) -> None:
    harness.run(3, 4)
    first = harness.router.write(MODEL, Split(3), seen=0, note="first {{ env `HOME` }}\n✓")
    assert first == Route(MODEL, Split(3), 1, "first {{ env `HOME` }}\n✓")
    second = harness.router.write(MODEL, Split(3, 4, 10, previous=2), seen=1, note="try v4")
    assert harness.router.read(MODEL) == second == Route(MODEL, Split(3, 4, 10, previous=2), 2, "try v4")
    assert list(harness.router.models()) == [MODEL]


def rollout() -> RolloutState:
    """In its second window, with everything in it that could be lost on the way."""
    counts = Counts(1200, 3, {0.005: 900, 0.1 + 0.2: 1199}, 1200, 1, 2, {1e-07: 4, 0.05: 800}, 1.7e9 + 0.123, 5)
    policy = RolloutPolicy((RolloutStep(shadow_pct=100), RolloutStep(weight_pct=10)), approval=True, sticky=True)
    expected = Expected(0.05, scores={0.05: -0.25, 0.1 + 0.2: 1 / 3}, disagreement=0.125, span=0.75)
    state = begin(4, policy, expected, 1.7e9 + 1 / 3, (counts, counts))
    return advanced(state, 1.7e9 + 2 / 3, (counts, counts), 'näher {{ env `HOME` }} }} — ✓\n\u2028"\\')


def test_state_of_a_rollout_goes_with_the_split_and_is_read_back_equal(harness: Harness) -> None:
    harness.run(3, 4)
    written = harness.router.write(MODEL, Split(3, 4, 10), seen=0, note="", rollout=rollout())
    assert written.rollout == rollout()
    assert harness.router.read(MODEL) == written
    # What is not written again is gone: the state is that of the split.
    assert harness.router.write(MODEL, Split(3), seen=1, note="").rollout is None
    assert harness.router.read(MODEL) == Route(MODEL, Split(3), 2)


def test_refused_write_leaves_the_state_of_the_rollout(harness: Harness) -> None:
    harness.run(3)
    written = harness.router.write(MODEL, Split(3), seen=0, note="", rollout=rollout())
    with pytest.raises(Conflict):
        harness.router.write(MODEL, Split(3), seen=0, note="")
    with pytest.raises(Unavailable):
        harness.router.write(MODEL, Split(3, 4, 10), seen=1, note="")
    assert harness.router.read(MODEL) == written


def test_write_on_an_old_generation_conflicts_and_changes_nothing(harness: Harness) -> None:
    harness.run(3, 4)
    first = harness.router.write(MODEL, Split(3), seen=0, note="")
    for seen in (0, 2):
        with pytest.raises(Conflict, match="generation 1"):
            harness.router.write(MODEL, Split(4), seen=seen, note="")
    assert harness.router.read(MODEL) == first


def test_version_that_does_not_run_gets_no_traffic(harness: Harness) -> None:
    harness.run(3)
    first = harness.router.write(MODEL, Split(3), seen=0, note="")
    with pytest.raises(Unavailable, match="v4 of flight_delay does not run"):
        harness.router.write(MODEL, Split(3, 4, 10), seen=1, note="")
    assert harness.router.read(MODEL) == first


def test_models_have_routes_of_their_own(harness: Harness) -> None:
    harness.run(3)
    harness.run(7, model="flight")
    harness.router.write(MODEL, Split(3), seen=0, note="")
    harness.router.write("flight", Split(7), seen=0, note="")
    assert list(harness.router.models()) == ["flight", MODEL]


def test_route_of_the_older_form_is_read_and_goes_on_from_its_generation(local: Local) -> None:
    local.run(3, 4)
    local.router.write(MODEL, Split(3, 4, 10, previous=2), seen=0, note="")
    first, _, rest = local.file.read_text().partition("\n")
    record = json.loads(first.removeprefix(PREFIX))
    assert record["schema_version"] == 2
    del record["rollout"], record["split"]["shadow"], record["split"]["shadow_pct"], record["split"]["sticky"]
    local.replace(f"{PREFIX}{json.dumps({**record, 'schema_version': 1})}\n{rest}")
    assert local.router.read(MODEL) == Route(MODEL, Split(3, 4, 10, previous=2), 1)
    assert local.router.drifted(MODEL) is None
    written = local.router.write(MODEL, Split(3, shadow=4, shadow_pct=100), seen=1, note="", rollout=rollout())
    assert local.router.read(MODEL) == written


def test_ten_changes_of_weight_lose_nothing_and_shares_follow(
    local: Local, record_property: Callable[..., None]
) -> None:
    local.run(3, 4)
    local.router.write(MODEL, Split(3), seen=0, note="")
    with Traffic(local.router.url(MODEL), MODEL, pause_s=0.005) as traffic:
        for generation, pct in enumerate((5, 25, 50, 75, 95, 50, 10, 90, 30, 60), start=1):
            local.router.write(MODEL, Split(3, 4, pct), seen=generation, note="")
            traffic.mark()
            traffic.wait_for(100)
            share = 100 * traffic.answered[4] / sum(traffic.answered.values())
            # Weights are dealt out in turn, not drawn: what remains is requests in flight at the mark.
            assert share == pytest.approx(pct, abs=6)
    record_property("total", traffic.total)
    print(f"lost {len(traffic.lost)} of {traffic.total}")
    assert traffic.lost == []


def test_killed_canary_costs_next_to_nothing(local: Local, processes: Processes) -> None:
    local.run(3, 4)
    local.router.write(MODEL, Split(3, 4, 50), seen=0, note="")
    with Traffic(local.router.url(MODEL), MODEL) as traffic:
        traffic.wait_for(50)
        state = next(state for state in processes.states() if state.name.endswith("v4"))
        psutil.Process(state.pid).kill()
        traffic.mark()
        traffic.wait_for(300)
    print(f"lost {len(traffic.lost)} of {traffic.total}: {traffic.lost}")
    # What the canary had begun to read can't be sent again: one request a client at most.
    assert len(traffic.lost) <= traffic.client_count


def test_header_pins_a_version_and_never_gives_another(local: Local) -> None:
    local.run(3, 4)
    local.router.write(MODEL, Split(3), seen=0, note="")
    with client(local.router.url(MODEL)) as connection:
        assert post(connection, MODEL) == (200, 3)
        assert post(connection, MODEL, Headrace_Version="4") == (200, 4)
        assert post(connection, MODEL, Headrace_Version="5") == (503, 0)
        assert post(connection, MODEL, Headrace_Version="") == (503, 0)


def test_service_is_told_under_which_role_it_answers_whatever_the_client_says(local: Local) -> None:
    local.run(2, 3, 4, 5)
    local.router.write(MODEL, Split(3, 4, 50, previous=2), seen=0, note="")
    expected = {2: "previous", 3: "stable", 4: "canary", 5: None}

    def role(answer: dict[str, Any]) -> str | None:
        return answer["headers"].get(ROLE_HEADER.lower())

    with client(local.router.url(MODEL)) as connection:
        for said in ({}, {"Headrace_Role": "shadow"}, {"Connection": "Headrace-Role"}):
            split = [ask(connection, MODEL, **said)[1] for _ in range(4)]
            assert (
                sorted((answer["version"], role(answer)) for answer in split)
                == [(3, "stable")] * 2 + [(4, "canary")] * 2
            )
            pinned = {v: ask(connection, MODEL, Headrace_Version=str(v), **said)[1] for v in expected}
            assert {version: role(answer) for version, answer in pinned.items()} == expected
        local.router.write(MODEL, Split(4, previous=3), seen=1, note="")
        assert role(ask(connection, MODEL)[1]) == "stable"
        assert role(ask(connection, MODEL, Headrace_Version="3")[1]) == "previous"


def test_name_that_begins_like_another_is_another(local: Local) -> None:
    local.run(7, model="flight")
    local.router.write("flight", Split(7), seen=0, note="")
    expected = {
        "/v1/models/flight/predict": 200,
        "/v2/models/flight": 200,
        "/v2/models/flight/infer": 200,
        "/v1/models/flight_delay/predict": 404,
        "/v2/models/flight_delay/infer": 404,
        "/v2/models/flightx": 404,
        "/v1/models/flight": 404,
        "/v2/health/ready": 404,
        "/metrics": 404,
        "/api/rawdata": 404,
        "/v1/models/flight/%2e%2e/%2e%2e/%2e%2e/metrics": 404,
        "/v1/models/flight/%2e%2e/flight/predict": 404,
        "/v1/models/x/../flight/predict": 404,
        "/v1/models//flight/predict": 404,
        "/v1/models/flight//predict": 404,
        "/v1/models/flight/a%2fb": 404,
    }
    assert {path: status(local.router.url("flight"), path) for path in expected} == expected


def test_limits_of_the_proxy(local: Local) -> None:
    local.run(3)
    local.router.write(MODEL, Split(3), seen=0, note="")
    url, path = local.router.url(MODEL), f"/v1/models/{MODEL}/predict"
    assert status(url, path, b"x" * BODY_BYTES) == 200
    with client(url) as connection:
        connection.putrequest("POST", path)
        connection.putheader("Content-Length", str(BODY_BYTES + 1))
        connection.endheaders()
        assert connection.getresponse().status == 413
    assert status(url, path, x="a" * 60_000) == 431
    assert status(url, path, headrace_version="3") == 400


def test_everything_listens_on_loopback_only(local: Local, processes: Processes) -> None:
    local.run(3)
    for state in processes.states():
        listening = [c.laddr.ip for c in psutil.Process(state.pid).net_connections() if c.status == psutil.CONN_LISTEN]
        assert listening
        assert set(listening) == {HOST}


def test_silent_proxy_is_unavailable_and_nothing_changes(
    local: Local, settings: Settings, processes: Processes
) -> None:
    local.run(3, 4)
    route = local.router.write(MODEL, Split(3), seen=0, note="")
    processes.remove(traefik.NAME)
    impatient = TraefikRouter(settings, processes, local.router._urls, timeout_s=1.0)
    with pytest.raises(Unavailable, match="does not answer, nothing was changed"):
        impatient.write(MODEL, Split(4), seen=1, note="")
    assert local.router.read(MODEL) == route
    assert local.router.drifted(MODEL) is None


def test_killed_proxy_comes_back_with_the_weights(local: Local, processes: Processes) -> None:
    local.run(3, 4)
    route = local.router.write(MODEL, Split(3, 4, 10), seen=0, note="")
    state = next(state for state in processes.states() if state.name == traefik.NAME)
    psutil.Process(state.pid).send_signal(signal.SIGKILL)
    eventually(lambda: _weights_held(local.router, route), timeout_s=30)


def test_odd_model_names_are_refused(local_router: TraefikRouter) -> None:
    for name in ("../x", "a`) || PathPrefix(`/", "_headrace", "Flight", ""):
        with pytest.raises(UsageError):
            local_router.read(name)


def _weights_held(router: TraefikRouter, route: Route) -> bool:
    try:
        held = router._held(route.model)
    except HeadraceError:
        return False
    weights: Mapping[int, int] = held.weights if held else {}
    return dict(weights) == route.split.weights
