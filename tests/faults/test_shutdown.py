"""A service that is told to end answers what it was asked, and the proxy asks somebody else then."""

from tests.contract.conftest import eventually
from tests.contract.traffic import Traffic
from tests.faults.house import MODEL, House


def test_sigterm_of_either_release_under_load_loses_nothing(house: House) -> None:
    with Traffic(house.url, MODEL, body=house.body) as traffic:
        for version in (4, 3):
            release = f"flight-delay-v{version}"
            before = house.process(release)
            assert before
            traffic.wait_for(50)
            before.terminate()
            eventually(lambda before=before: not before.is_running())
            traffic.mark()
            # supervisord starts it again, and Traefik finds it well.
            eventually(lambda version=version: traffic.answered[version] > 10)
            after = house.process(release)
            assert after
            assert after.pid != before.pid
            traffic.mark()
    print(f"lost {len(traffic.lost)} of {traffic.total}")
    assert traffic.lost == []
