"""The short forms of `python -m tests.chaos.redis_gone` and its like: their times are for a quiet machine to judge."""

from tests.chaos import redis_gone
from tests.support.stack import run_check


def test_a_page_goes_on_while_redis_is_gone():
    outcome = run_check("redis_gone", "--short")
    assert {name: outcome[name] for name in redis_gone.WRONG} == dict.fromkeys(redis_gone.WRONG, 0), outcome
    assert outcome["points"] > 0 and set(outcome["links"]) >= {"database", "live"}, outcome
