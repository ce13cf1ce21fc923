"""Token buckets with a test clock, and which address counts."""

from __future__ import annotations

import threading

import pytest
from django.test import override_settings

from runs.access.addresses import client_address
from runs.access.limiter import Bucket, Limiter


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_a_bucket_allows_a_burst_and_then_its_rate() -> None:
    clock = Clock()
    bucket = Bucket(burst=3, per_s=2, clock=clock)
    assert [bucket.take() for _ in range(4)] == [True, True, True, False]
    clock.now += 0.5
    assert bucket.take() and not bucket.take()
    clock.now += 3600
    assert [bucket.take() for _ in range(4)] == [True, True, True, False], "more than the burst was saved up"


def test_a_bucket_takes_nothing_where_the_cost_is_too_high() -> None:
    bucket = Bucket(burst=3, per_s=0, clock=Clock())
    assert not bucket.take(4) and bucket.has(3) and bucket.take(3) and not bucket.has()


def test_each_key_has_its_own_bucket_and_a_look_costs_nothing() -> None:
    clock = Clock()
    limiter = Limiter(burst=1, per_s=1, clock=clock)
    assert all(limiter.has("one") for _ in range(5)) and len(limiter) == 0
    assert limiter.take("one") and not limiter.take("one") and not limiter.has("one")
    assert limiter.take("two")
    clock.now += 1
    assert limiter.has("one")


def test_it_keeps_a_bounded_number_of_keys_those_in_use() -> None:
    limiter = Limiter(burst=1, per_s=0, most_keys=3, clock=Clock())
    limiter.take("busy")
    for key in range(100):
        limiter.take(key)
        assert not limiter.take("busy")
    assert len(limiter) == 3


def test_threads_share_it() -> None:
    limiter = Limiter(burst=1000, per_s=0, clock=Clock())
    taken: list[int] = []
    threads = [
        threading.Thread(target=lambda: taken.append(sum(limiter.take("key") for _ in range(500)))) for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(taken) == 1000


@pytest.mark.parametrize(
    ("peer", "forwarded", "behind_proxy", "address"),
    [
        ("192.0.2.1", "", False, "192.0.2.1"),
        ("192.0.2.1", "198.51.100.7", False, "192.0.2.1"),
        ("127.0.0.1", "198.51.100.7", True, "198.51.100.7"),
        ("127.0.0.1", "203.0.113.9, 198.51.100.7", True, "198.51.100.7"),
        ("127.0.0.1", "198.51.100.7:4711", True, "198.51.100.7"),
        ("127.0.0.1", "[2001:db8::7]:4711", True, "2001:db8::/64"),
        ("127.0.0.1", "", True, "127.0.0.1"),
        ("127.0.0.1", "unknown", True, "127.0.0.1"),
        ("2001:db8::1", "", False, "2001:db8::/64"),
        ("::ffff:192.0.2.1", "", False, "192.0.2.1"),
        ("fe80::1%eth0", "", False, "fe80::/64"),
        ("", "", False, ""),
    ],
)
def test_it_believes_the_proxy_alone(peer: str, forwarded: str, behind_proxy: bool, address: str) -> None:
    with override_settings(BEHIND_TLS=behind_proxy):
        assert client_address(peer, forwarded) == address
