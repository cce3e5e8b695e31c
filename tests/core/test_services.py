"""Every service at one broker: there when it is asked for, forgotten when nobody has offered it for long enough."""

from homing.core.queues import Offering
from homing.core.services import Services
from tests.core.people import ONE, TWO, W1, W2


def begun(no_worker_after_s: float = 5.0) -> Services:
    services = Services(no_worker_after_s)
    services.began_at = 1.0
    return services


def test_a_service_is_there_once_it_is_asked_for_and_nobody_has_offered_it_since_the_beginning() -> None:
    services = begun()
    assert services.get("acme") is None
    assert services["acme"].nobody_since == 1.0
    assert services["acme"] is services["acme"]
    assert services.patience == {"acme": 6.0}


def test_patience_ends_and_the_service_is_forgotten() -> None:
    services = begun()
    acme = services["acme"]
    assert services.due(5.9) == []
    assert services.due(6.0) == [acme]
    assert not services
    assert not services.patience


def test_what_is_offered_is_waited_for_as_long_as_it_takes() -> None:
    services, worker = begun(), Offering(ONE, W1)
    services.offer(worker, {"acme": 3}, 2.0)
    assert worker.services == {"acme": 3}
    assert services["acme"].workers == {ONE: worker}
    assert services["acme"].nobody_since is None
    assert services.due(1000.0) == []


def test_patience_begins_when_the_last_worker_withdraws() -> None:
    services, one, two = begun(), Offering(ONE, W1), Offering(TWO, W2)
    services.offer(one, {"acme": 1, "bank": 1}, 2.0)
    services.offer(two, {"acme": 1}, 2.0)
    services.offer(one, {"bank": 2}, 3.0)
    assert services["acme"].workers == {TWO: two}
    assert not services.patience
    services.offer(two, {}, 4.0)
    assert services["acme"].nobody_since == 4.0
    assert services.patience == {"acme": 9.0}
    assert one.services == {"bank": 2}


def test_it_is_known_when_the_broker_last_stood_still() -> None:
    services = Services(5.0, heartbeat_s=1.0)
    services.turn(1.0)
    services.turn(3.0)
    assert services.began_at == 1.0
    assert services.awake_since < 1.0
    services.turn(5.1)
    assert services.awake_since == 5.1
    services.turn(7.0)
    assert services.awake_since == 5.1


def test_without_heartbeats_nobody_knows_whether_it_stood_still() -> None:
    services = Services(5.0)
    services.turn(1.0)
    services.turn(1000.0)
    assert services.awake_since < 1.0
