import pytest
import schemathesis
from hypothesis import HealthCheck, assume, given, settings
from schemathesis import GenerationMode
from schemathesis.specs.openapi.checks import positive_data_acceptance

# 413, for too many rows, is not among Schemathesis' own refusals.
CONFIG = schemathesis.Config.from_dict({"checks": {"negative_data_rejection": {"expected-statuses": [400, 413]}}})
PATH = "/v1/models/flight_delay/predict"
INFER = ("/v2/models/flight_delay/infer", "/v2/models/flight_delay/versions/3/infer")


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_app_does_what_it_says(make_client, task, mode):
    # A small cap on rows, so that it is cheap to break.
    api = schemathesis.openapi.from_asgi("/openapi.json", make_client(task, rows=20).app, config=CONFIG)
    # The paths with the version are the same handlers.
    operations = [found.ok() for found in api.get_all_operations() if "/versions/" not in found.ok().path]
    assert PATH in {operation.path for operation in operations}
    if mode is GenerationMode.NEGATIVE:
        # The others take nothing, so nothing can be wrong about it.
        operations = [operation for operation in operations if operation.path in (PATH, *INFER)]
    for operation in operations:

        @given(case=operation.as_strategy(generation_mode=mode))
        @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
        def keeps_its_word(case):
            # That values fit their shapes and datatypes is beyond JSON Schema: an infer body of its form may be a 400.
            answer = case.call()
            # Two features near the end of float32 make a linear model answer infinity: a 500, as the README says.
            assume("no finite answer" not in answer.text)
            # JSON Schema has times of the year 559 and leap seconds.
            assume("must be a time with its zone" not in answer.text)
            case.validate_response(answer, excluded_checks=[positive_data_acceptance] if case.path in INFER else [])

        keeps_its_word()


@pytest.fixture
def operation(client):
    return client.get("/openapi.json").json()["paths"][PATH]["post"]


@pytest.fixture
def row(operation):
    body = operation["requestBody"]["content"]["application/json"]["schema"]
    return body["properties"]["rows"]["items"]


def test_example_runs_as_it_is(client, operation):
    example = operation["requestBody"]["content"]["application/json"]["example"]
    assert client.post(PATH, json=example).status_code == 200


@pytest.mark.parametrize("path", INFER)
def test_infer_example_runs_as_it_is(make_client, task, path):
    with make_client(task) as client:
        content = client.get("/openapi.json").json()["paths"][path]["post"]["requestBody"]["content"]
        assert content.keys() == {"application/json", "application/octet-stream"}
        answer = client.post(path, json=content["application/json"]["example"])
    assert answer.status_code == 200
    assert answer.json()["id"] == "example"


def test_row_says_what_the_contract_says(row):
    assert row["required"] == ["wind_speed", "distance", "carrier", "is_holiday"]
    assert row["additionalProperties"] is False
    speed, delay = row["properties"]["wind_speed"], row["properties"]["recent_delay"]
    assert speed["type"] == "number"
    assert speed["description"] == (
        "Wind at the origin. Unit: knots. Plausible from 0 to 60; values outside are counted."
    )
    assert delay["type"] == ["number", "null"]
    assert delay["description"].endswith("May be null or left out.")
    assert row["properties"]["distance"]["type"] == "integer"
    assert row["properties"]["is_holiday"]["type"] == "boolean"
    assert row["properties"]["carrier"]["enum"] == ["AA", "DL", "UA"]
    assert row["properties"]["gate"]["type"] == ["string", "null"]
    assert row["properties"]["gate"]["examples"] == ["north", "south"]


def test_every_refusal_is_described_in_the_error_form(operation):
    assert operation["responses"].keys() == {"200", "400", "408", "413", "415", "500", "503"}


def test_page_for_people_is_there(client):
    page = client.get("/docs")
    assert page.status_code == 200
    assert "/openapi.json" in page.text
