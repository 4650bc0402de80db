"""The parts of the serving benchmark that only calculate."""

import json
from typing import Any

import pytest
import yaml

from benchmarks.serving import goals, page, profile
from benchmarks.serving.environments import HERE
from benchmarks.serving.figures import Cell, Life, Results, summarise
from benchmarks.serving.generator import Load, parse
from benchmarks.serving.servers import catalogue
from benchmarks.serving.wire import Request
from headrace.errors import HeadraceError

SERIES = {"count": 2000, "p50": 100.0, "p90": 200.0, "p99": 1000.0, "p99.9": 2000.0, "max": 3000.0}


def line(**changes: Any) -> str:
    """A line as the generator prints it."""
    found = {"due": 2000, "ok": 2000, "not_2xx": 0, "broken": 0, "unanswered": 0, "closed": 0, "first_bad_status": 0}
    found |= {"seconds": 2.0, "generator_waited_us": 12.5, "latency_us": SERIES, "lag_us": SERIES}
    return json.dumps(found | changes)


def load(**changes: Any) -> Load:
    return parse(line(**changes))


def cell(
    server: str, cpu_us: float, *, connections: int = 16, rate: float = 0.0, rows: int = 1, **changes: Any
) -> Cell:
    some = load(**changes)
    return Cell(server, rows, connections, rate, some, cpu_us * some.ok / 1e6, 0.1, 0.0)


def verdict(name: str, results: Results, reasons: dict[str, str] | None = None) -> goals.Verdict:
    (found,) = [v for v in goals.judge(goals.goals(), results, reasons or {}) if v.goal.name == name]
    return found


def test_every_request_without_an_answer_of_2xx_is_lost() -> None:
    found = load(due=100, ok=90, not_2xx=5, broken=3, unanswered=2)
    assert (found.ok, found.lost) == (90, 10)


def test_rate_is_of_answers_and_not_of_requests() -> None:
    assert load(ok=100, not_2xx=1900, seconds=2.0).per_s == 50.0


@pytest.mark.parametrize("text", ["", "Killed", "{}", '{"ok": 3}'])
def test_what_is_no_line_of_results_is_an_error_that_shows_it(text: str) -> None:
    with pytest.raises(HeadraceError, match="load generator"):
        parse(text)


def test_figures_are_medians_over_the_rounds_at_the_peak_of_the_connections() -> None:
    slow = [cell("naive", cpu, connections=1, ok=10) for cpu in (1.0, 1.0, 1.0)]
    fast = [cell("naive", cpu, connections=64) for cpu in (900.0, 100.0, 200.0)]
    figures = summarise([*slow, *fast], [], {}).figures["naive", 1]
    assert figures.peak == 64
    assert figures.cpu_us == pytest.approx(200.0)


def test_losses_of_all_rounds_add_up() -> None:
    cells = [cell("headrace", 10.0, not_2xx=1), cell("headrace", 10.0, rate=500.0, broken=2)]
    results = summarise(cells, [], {})
    assert results.figures["headrace", 1].lost == 3
    assert verdict("lost", results).met is False


def test_last_thousandth_of_few_answers_is_not_given() -> None:
    few = SERIES | {"count": 300}
    enough = summarise([cell("ray", 10.0, rate=100.0)], [], {}).figures["ray", 1].open
    not_enough = summarise([cell("ray", 10.0, rate=100.0, latency_us=few)], [], {}).figures["ray", 1].open
    assert enough is not None
    assert enough.p999_ms == 2.0
    assert not_enough is not None
    assert not_enough.p999_ms is None


def test_ratio_of_a_peer_counts_how_much_more_cpu_it_needs() -> None:
    results = summarise([cell("headrace", 50.0), cell("mlflow", 1250.0)], [], {})
    found = verdict("1_rows_vs_mlflow", results)
    assert found.value == pytest.approx(25.0)
    assert found.met is True


def test_ratio_to_raw_asgi_counts_the_other_way() -> None:
    results = summarise([cell("headrace", 90.0), cell("asgi", 30.0)], [], {})
    found = verdict("1_rows_vs_asgi", results)
    assert found.value == pytest.approx(3.0)
    assert found.met is False


def test_goal_at_its_bound_is_met() -> None:
    results = summarise([cell("headrace", 100.0), cell("asgi", 40.0)], [Life("headrace", 2.0, 100.0, 0.0)], {})
    assert [verdict(name, results).met for name in ("1_rows_vs_asgi", "start", "memory")] == [True, True, True]


def test_goal_beside_a_server_without_figures_is_not_measured() -> None:
    results = summarise([cell("headrace", 50.0), cell("mlflow", 0.0, ok=0)], [], {})
    assert verdict("1_rows_vs_mlflow", results).met is None
    assert verdict("1_rows_vs_kserve", results).met is None


def test_p99_is_compared_with_the_control_at_the_same_rate() -> None:
    late = SERIES | {"p99": 2500.0}
    results = summarise([cell("headrace", 50.0, rate=500.0, latency_us=late), cell("control", 8.0, rate=500.0)], [], {})
    assert verdict("p99", results).value == pytest.approx(2.5)
    assert verdict("p99_to_control", results).value == pytest.approx(2.5)


def test_reason_is_printed_beside_a_missed_goal_only() -> None:
    reasons = {"start": "imports", "memory": "arenas"}
    results = summarise([], [Life("headrace", 2.5, 90.0, 0.0)], {})
    assert verdict("start", results, reasons).reason == "imports"
    assert verdict("memory", results, reasons).reason == ""


def test_page_has_a_line_for_every_server_and_says_why_one_has_no_figures() -> None:
    servers = catalogue(has_log=True)
    results = summarise(
        [cell("headrace", 50.0)], [Life("headrace", 1.0, 80.0, 0.0)], {"ray": "uv pip failed: no | wheel"}
    )
    run = page.Run("make bench-serving", "2026-11-24", "a machine", 3, (0.8, 2.0), (0, 1), 20.0, {"ray": "2.60.0"})
    text = page.page(run, servers, results, goals.judge(goals.goals(), results, {}))
    for server in servers:
        assert f"| {server.label} |" in text
    assert "uv pip failed: no / wheel" in text


def test_page_says_what_the_engines_take_alone() -> None:
    found = {("onnx", 1): 8.0, ("onnx", 100): 370.0, ("sklearn", 1): 636.0, ("sklearn", 100): 850.0}
    results = Results({}, {}, {}, engines=found, profile={"python": 46.1})
    run = page.Run("make bench-serving", "2026-11-24", "a machine", 1, (0.8, 2.0), (0, 1), 1.0, {})
    text = page.page(run, [], results, [])
    assert "ONNX Runtime 8 µs for one row and 370 µs" in text
    assert "| python | 46.1 |" in text


def test_every_reason_belongs_to_a_goal() -> None:
    kept = yaml.safe_load((HERE / "reasons.yaml").read_text())
    assert set(kept) <= {goal.name for goal in goals.goals()}


def test_tables_have_as_many_cells_in_every_line_as_in_their_head() -> None:
    servers = catalogue(has_log=False)
    cells = [cell("headrace", 50.0), cell("headrace", 50.0, rate=500.0), cell("control", 8.0, rate=500.0)]
    results = summarise(cells, [], {"ray": "no wheel"})
    run = page.Run("make bench-serving", "2026-11-24", "a machine", 1, (0.8, 2.0), (0, 1), 1.0, {})
    text = page.page(run, servers, results, goals.judge(goals.goals(), results, {}))
    for block in text.split("\n\n"):
        if block.startswith("| "):
            assert len({row.count("|") for row in block.splitlines()}) == 1


def test_request_says_the_length_of_its_bytes_and_keeps_them() -> None:
    raw = Request("/x", {"Accept": "*/*"}, b"\x00\r\n\r\n\xff").raw()
    head, _, body = raw.partition(b"\r\n\r\n")
    assert b"Content-Length: 6" in head.split(b"\r\n")
    assert body == b"\x00\r\n\r\n\xff"


def test_every_server_has_a_name_of_its_own() -> None:
    names = [server.name for server in catalogue(has_log=True)]
    assert len(names) == len(set(names))


@pytest.mark.parametrize(("value", "text"), [(3.0, "3"), (2.345, "2.35"), (23.45, "23.4"), (12345.6, "12,346")])
def test_numbers_have_the_places_that_they_deserve(value: float, text: str) -> None:
    assert goals.number(value) == text


def test_profile_adds_up_by_library_and_leaves_out_the_crumbs() -> None:
    report = "# Overhead  Shared Object\n    40.00%  python3.11\n     9.00%  loop.cpython-311-x86_64-linux-gnu.so\n"
    report += "     0.20%  libz.so.1\n    30.50%  [kernel.kallsyms]\n"
    assert profile.parse(report) == {"python3.11": 40.0, "kernel.kallsyms": 30.5, "loop": 9.0}
