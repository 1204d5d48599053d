"""What a server takes on at once, and when it tells clients to come again."""

from __future__ import annotations

import pytest
from glass_edge.runtime.serving import admission as module
from glass_edge.runtime.serving.admission import Admission, BusyError


@pytest.fixture
def clock(monkeypatch):
    """A clock that tests set."""
    now = [1000.0]
    monkeypatch.setattr(module.time, "monotonic", lambda: now[0])
    return now


def refused(admission: Admission, **more: int) -> BusyError:
    with pytest.raises(BusyError) as found, admission.hold() as held:
        held.add(**more)
    return found.value


def test_no_more_images_wait_than_may():
    admission = Admission(2, 100)
    with admission.hold() as held:
        held.add(images=2)
        assert str(refused(admission, images=1)) == "2 images wait already: try again later."
        with pytest.raises(BusyError):
            admission.check(0)
    admission.check(0)
    assert admission.images == 0


def test_no_more_bytes_are_held_than_may():
    admission = Admission(9, 100)
    with admission.hold() as held:
        held.add(size=60)
        admission.check(40)
        with pytest.raises(BusyError):
            admission.check(41)
        refused(admission, size=41)
        assert admission.size == 60
    assert admission.size == 0


def test_what_is_shared_is_held_until_the_last_has_ended():
    admission = Admission(9, 100)
    with admission.hold() as held:
        held.add(images=1, size=10)
        held.share()
    assert (admission.images, admission.size) == (1, 10)
    held.close()
    assert (admission.images, admission.size) == (0, 0)


def test_clients_are_told_to_come_when_half_of_what_waits_is_done(clock):
    """At two images a second, and with sixty waiting."""
    admission = Admission(60, 100)
    waiting = admission.hold()
    waiting.add(images=20)
    for _ in range(40):
        clock[0] += 0.5
        with admission.hold() as held:
            held.add(images=1)
    waiting.add(images=40)
    assert refused(admission, images=1).retry_after == 15


def test_a_quiet_night_says_nothing_of_how_quick_the_server_is(clock):
    admission = Admission(60, 100)
    for _ in range(40):
        with admission.hold() as held:
            held.add(images=1)
    clock[0] += 3600
    admission.hold().add(images=60)
    assert refused(admission, images=1).retry_after == 1
