"""The short forms of `python -m tests.chaos.redis_gone` and similar programs, without limits for their times."""

from tests.chaos import postgres_gone, redis_gone, sqlite_gone
from tests.chaos.processes import killed
from tests.outage.frozen_postgres import skip_without_postgres
from tests.support.stack import run_check


def test_a_page_goes_on_while_redis_is_gone():
    outcome = run_check("redis_gone", "--short")
    assert {name: outcome[name] for name in redis_gone.WRONG} == dict.fromkeys(redis_gone.WRONG, 0), outcome
    assert outcome["points"] > 0 and set(outcome["links"]) >= {"database", "live"}, outcome
    # A line or two for each of six faults and each process, and no traceback of a lost connection.
    assert outcome["log_lines"] < 40, outcome


def test_pages_tell_of_a_postgres_that_is_at_fault_and_a_training_goes_on():
    skip_without_postgres()
    outcome = run_check("postgres_gone", "--short")
    assert {name: outcome[name] for name in postgres_gone.WRONG} == dict.fromkeys(postgres_gone.WRONG, 0), outcome
    assert outcome["points"] > 0 and set(outcome["links"]) >= {"unavailable", "live"}, outcome
    # A line or two for each of four faults and each process, and none for each request.
    assert outcome["log_lines"] < 200, outcome


def test_pages_tell_of_a_sqlite_file_that_is_at_fault_and_a_training_goes_on():
    outcome = run_check("sqlite_gone", "--short")
    wrong = [name for name in sqlite_gone.WRONG if name != "locked_errors"]
    assert {name: outcome[name] for name in wrong} == dict.fromkeys(wrong, 0), outcome
    assert outcome["points"] > 0 and outcome["log_lines"] < 60, outcome


def test_a_supervisor_and_a_portal_that_were_killed_are_followed_by_others():
    outcome = run_check("processes.killed", "--short")
    assert {name: outcome[name] for name in killed.WRONG} == dict.fromkeys(killed.WRONG, 0), outcome
    assert outcome["commands_s"] > 0 and outcome["portal_s"] > 0, outcome
