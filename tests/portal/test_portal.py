"""The portal's pages and JSON: who sees what, and the message of each refusal."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.db import connection
from django.template.loader import render_to_string
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

import steersman
from monitor_site.web_app import build_id
from runs.models import Attempt, Membership, Project, Recipe, Role, Run, RunState, Series, UsedTicket
from runs.protocol.events import Block
from runs.recording import feed
from tests.support.sockets import redeem_ticket
from tests.support.stored_points import metrics_event

pytestmark = pytest.mark.django_db

PASSWORD = "a long and quiet river"

Login = Callable[[str], Client]


@pytest.fixture
def project() -> Project:
    project = Project.objects.create(name="Digits", slug="digits")
    for role in Role.values:
        user = User.objects.create_user(role, password=PASSWORD, first_name=role.title(), last_name="Person")
        Membership.objects.create(project=project, user=user, role=role)
    User.objects.create_user("stranger", password=PASSWORD)
    return project


@pytest.fixture
def run(project: Project) -> Run:
    return make_run(project, "first-light")


@pytest.fixture
def login(project: Project) -> Login:
    def log_in(name: str) -> Client:
        client = Client()
        client.force_login(User.objects.get(username=name))
        return client

    return log_in


def make_run(project: Project, name: str, **fields: Any) -> Run:
    recipe, _ = Recipe.objects.get_or_create(spec="image-classifier", title="Images")
    author = User.objects.get(username="operator")
    return Run.objects.create(project=project, name=name, recipe=recipe, created_by=author, **fields)


def ask_ticket(client: Client, body: object) -> Any:
    return client.post(reverse("api:tickets"), body, content_type="application/json")


def test_it_sends_people_without_a_session_to_the_login(run: Run, client: Client) -> None:
    for address in (reverse("runs"), reverse("run", args=[run.pk]), reverse("password_change")):
        answer = client.get(address)
        assert answer.status_code == 302
        assert answer.headers["Location"] == f"{reverse('login')}?next={address}"


def test_it_tells_scripts_without_a_session_to_log_in(run: Run, client: Client) -> None:
    for name in ("history", "details", "points", "place"):
        answer = client.get(reverse(f"api:{name}", args=[run.pk]))
        assert answer.status_code == 401
        assert "log in" in answer.json()["error"]


def test_it_logs_in_and_goes_where_one_wanted(run: Run, client: Client) -> None:
    wanted = reverse("run", args=[run.pk])
    page = client.get(reverse("login"), {"next": wanted})
    assert f'value="{wanted}"' in page.content.decode()
    answer = client.post(reverse("login"), {"username": "viewer", "password": PASSWORD, "next": wanted})
    assert answer.headers["Location"] == wanted


@pytest.mark.parametrize("elsewhere", ["https://elsewhere.example/", "//elsewhere.example", "javascript:alert(1)"])
def test_it_follows_no_next_to_another_site(project: Project, client: Client, elsewhere: str) -> None:
    answer = client.post(reverse("login"), {"username": "viewer", "password": PASSWORD, "next": elsewhere})
    assert answer.headers["Location"] == reverse("runs")


def test_it_says_when_a_password_is_wrong(project: Project, client: Client) -> None:
    answer = client.post(reverse("login"), {"username": "viewer", "password": "guess"})
    assert answer.status_code == 200
    assert 'role="alert"' in answer.content.decode()


def test_it_logs_out_by_post_only(login: Login) -> None:
    client = login("viewer")
    assert client.get(reverse("logout")).status_code == 405
    answer = client.post(reverse("logout"))
    assert answer.headers["Location"] == reverse("login") and answer.headers["Clear-Site-Data"] == '"cache"'
    assert client.get(reverse("runs")).status_code == 302


def test_it_changes_a_password_and_ends_other_sessions(login: Login) -> None:
    client, other = login("viewer"), login("viewer")
    fresh = "another long and quiet river"
    fields = {"old_password": PASSWORD, "new_password1": fresh, "new_password2": fresh}
    assert client.post(reverse("password_change"), fields).headers["Location"] == reverse("password_change_done")
    assert client.get(reverse("password_change_done")).status_code == 200
    assert other.get(reverse("runs")).status_code == 302
    assert User.objects.get(username="viewer").check_password(fresh)


def test_it_shows_a_stranger_nothing(run: Run, login: Login) -> None:
    client = login("stranger")
    assert "first-light" not in client.get(reverse("runs")).content.decode()
    for name in ("run", "api:history", "api:details", "api:place"):
        assert client.get(reverse(name, args=[run.pk])).status_code == 404
        assert client.get(reverse(name, args=[run.pk + 1000])).status_code == 404


def test_it_offers_stop_to_those_who_may(run: Run, login: Login) -> None:
    address = reverse("run", args=[run.pk])
    assert 'data-testid="stop"' in login("operator").get(address).content.decode()
    assert 'data-testid="stop"' in login("owner").get(address).content.decode()
    viewed = login("viewer").get(address).content.decode()
    assert 'data-testid="state"' in viewed
    assert "stop-confirm" not in viewed and 'data-testid="stop"' not in viewed


def test_its_list_of_keys_has_those_of_knobs_for_people_who_steer(run: Run, login: Login) -> None:
    def keys(name: str) -> dict[str, str]:
        page = login(name).get(reverse("run", args=[run.pk])).content.decode()
        listed = re.findall(r"<div><dt>(.+?)</dt><dd>(.+?)</dd></div>", page)
        return {what: re.sub("<[^>]+>", "", key) for key, what in listed}

    steering = {
        "On the slider of a knob: move it by 1 %, with Shift by 0.1 %": "← →",
        "On the slider of a knob: move it by 10 %": "PgUp PgDn",
        "On a knob: send the new value, or discard it": "Enter Esc",
    }
    assert steering.items() <= keys("operator").items()
    assert not steering.keys() & keys("viewer").keys()
    for name in ("operator", "viewer"):
        assert keys(name)["On the handle of a chart: move the chart within its group"] == "← →"


def test_it_keeps_markup_in_names_as_text(project: Project, login: Login) -> None:
    run = make_run(project, "</script><script>alert(1)</script>")
    for address in (reverse("runs"), reverse("run", args=[run.pk])):
        assert "<script>alert(1)" not in login("viewer").get(address).content.decode()


def test_it_asks_as_many_queries_for_thirty_runs_as_for_one(project: Project, run: Run, login: Login) -> None:
    client = login("viewer")

    def queries() -> int:
        with CaptureQueriesContext(
            connection,
        ) as captured:
            assert client.get(reverse("runs")).status_code == 200
        return len(captured)

    # Without any loss there is no curve to ask for.
    Series.objects.create(run=run, name="train/loss", last_value=0.5)
    before = queries()
    for number in range(20):
        other = make_run(project, f"run {number}", state=RunState.RUNNING, started_at=timezone.now())
        Series.objects.create(run=other, name="train/loss", last_value=0.5)
    assert queries() == before


def test_it_lists_what_a_run_reached(project: Project, login: Login) -> None:
    long_ago = timezone.now() - timedelta(seconds=20)
    quiet = make_run(
        project, "quiet", state=RunState.RUNNING, started_at=long_ago, heartbeat_at=long_ago, total_steps=200, step=50,
        best_metric=0.9731, best_metric_name="validation_accuracy",
    )  # fmt: skip
    Series.objects.create(run=quiet, name="train/loss", last_value=0.125)
    broken = make_run(project, "broken", state=RunState.FAILED)
    Series.objects.create(run=broken, name="loss", last_value=None, last_nonfinite="nan")
    page = login("viewer").get(reverse("runs"), {"fragment": "1"}).content.decode()
    assert "no heartbeat" in page and "25 %" in page and "0.9731" in page and "0.125" in page
    assert ">NaN<" in page and "Operator Person" in page
    assert "<html" not in page


def test_it_finds_runs_by_text_state_and_project(project: Project, login: Login) -> None:
    other = Project.objects.create(name="Other", slug="other")
    Membership.objects.create(project=other, user=User.objects.get(username="viewer"), role=Role.VIEWER)
    alpha = make_run(project, "alpha", state=RunState.FAILED)
    make_run(other, "beta", state=RunState.FINISHED)
    client = login("viewer")

    def names(**query: str) -> list[str]:
        return [row.run.name for row in client.get(reverse("runs"), query).context["rows"]]

    assert names() == ["beta", "alpha"]
    assert names(q="alp") == ["alpha"]
    assert names(q=f"#{alpha.pk}") == ["alpha"]
    assert names(state="finished") == ["beta"]
    assert names(project="digits") == ["alpha"]
    assert names(state="no such state") == ["beta", "alpha"]
    assert "No run matches" in client.get(reverse("runs"), {"q": "gamma"}).content.decode()


def test_it_pages_a_long_list(project: Project, login: Login) -> None:
    for number in range(26):
        make_run(project, f"run {number}")
    client = login("viewer")
    assert "page=2" in client.get(reverse("runs"), {"q": "run"}).content.decode()
    assert len(client.get(reverse("runs"), {"page": "2"}).context["rows"]) == 1


def test_it_sends_a_strict_policy_and_no_inline_code(run: Run, login: Login) -> None:
    client = login("operator")
    for address in (reverse("runs"), reverse("run", args=[run.pk]), reverse("password_change")):
        answer = client.get(address)
        page = answer.content.decode()
        assert "unsafe" not in answer.headers["Content-Security-Policy"]
        assert " style=" not in page and " onclick=" not in page and "<style" not in page


def test_the_admin_has_a_policy_too(run: Run, login: Login) -> None:
    User.objects.create_superuser("root")
    client = login("root")
    policy = client.get("/admin/runs/run/").headers["Content-Security-Policy"]
    assert "script-src 'self' 'unsafe-eval'" in policy and "default-src 'none'" in policy
    assert "unsafe" not in policy.partition("img-src")[2].partition(";")[0]


def test_no_page_is_kept_by_a_browser_or_a_proxy(run: Run, login: Login) -> None:
    client = login("operator")
    for path in ("/", f"/runs/{run.pk}/", "/password/", "/login/", "/nowhere/", "/admin/"):
        answer = client.get(path)
        assert {"no-store", "private"} <= set(answer["Cache-Control"].split(", ")), path


def test_it_gives_a_ticket_to_a_member(run: Run, login: Login) -> None:
    answer = ask_ticket(login("viewer"), {"run": run.pk})
    assert answer.status_code == 200 and answer.json()["expires_in_s"] == 30
    grant = redeem_ticket(answer.json()["ticket"], run.pk)
    assert grant is not None and grant.user_id == User.objects.get(username="viewer").pk


def test_it_refuses_tickets_with_a_reason(run: Run, login: Login, client: Client) -> None:
    assert ask_ticket(client, {"run": run.pk}).status_code == 401
    assert ask_ticket(Client(enforce_csrf_checks=True), {"run": run.pk}).status_code == 401
    assert ask_ticket(login("stranger"), {"run": run.pk}).status_code == 404
    assert ask_ticket(login("viewer"), {"run": run.pk + 1000}).status_code == 404
    assert login("viewer").get(reverse("api:tickets")).status_code == 405
    for body in ("{", "[1]", {"run": "1"}, {"run": True}, {"run": -1}, {"run": 2**70}, {}, {"run": 1, "x": "y" * 5000}):
        answer = ask_ticket(login("viewer"), body)
        assert answer.status_code == 422, body
        assert answer.json()["field"] == "run"
    assert not UsedTicket.objects.exists()


def test_it_gives_no_ticket_without_the_csrf_token(run: Run) -> None:
    client = Client(enforce_csrf_checks=True)
    client.force_login(User.objects.get(username="viewer"))
    answer = ask_ticket(client, {"run": run.pk})
    assert answer.status_code == 403
    assert answer.json()["field"] == "X-CSRFToken"
    form = client.post(reverse("logout"))
    assert form.status_code == 403 and "out of date" in form.content.decode()


def test_it_tells_the_history_and_hides_tracebacks_from_viewers(run: Run, login: Login) -> None:
    Attempt.objects.create(
        run=run, number=1, host="a", boot_id="b", supervisor_pid=1, traceback="Traceback …", error="it broke"
    )
    feed.append(run.pk, metrics_event([Block(steps=[1, 2], times=[1.0, 2.0], values={"loss": [0.5, 0.25]})]))
    for name in ("api:history", "api:details"):
        address = reverse(name, args=[run.pk])
        assert login("operator").get(address).json()["attempts"][0]["traceback"] == "Traceback …"
        attempt = login("viewer").get(address).json()["attempts"][0]
        assert attempt["error"] == "it broke" and "traceback" not in attempt
    told = login("viewer").get(reverse("api:history", args=[run.pk])).json()
    assert told["seq"] == 1


def test_it_gives_a_range_of_a_series(run: Run, login: Login) -> None:
    steps = list(range(10))
    block = Block(steps=steps, times=[float(step) for step in steps], values={"loss": [float(step) for step in steps]})
    Series.objects.create(run=run, name="loss")
    feed.append(run.pk, metrics_event([block]))
    query = {"name": "loss", "from": "3", "to": "5", "buckets": "100", "by": "step"}
    chart = login("viewer").get(reverse("api:points", args=[run.pk]), query).json()["series"]["loss"]
    assert chart["steps"] == [3, 4, 5] and chart["values"] == [3.0, 4.0, 5.0]


def test_it_shows_its_own_pages_for_errors(run: Run, login: Login) -> None:
    page = login("viewer").get("/nowhere/")
    assert page.status_code == 404 and "Not found" in page.content.decode()


@pytest.mark.parametrize("code", ["400", "403", "500"])
def test_it_renders_error_pages_without_a_request(code: str) -> None:
    page = render_to_string(f"{code}.html")
    assert "Back to the runs" in page and "nonce" not in page


@pytest.mark.parametrize("sheet", ["charts", "portal", "run", "steering"])
def test_no_style_of_the_run_page_depends_on_what_the_page_holds(sheet: str) -> None:
    """With `html:has(…)`, each changed value makes the browser recalculate all styles, for 0.8 s of each second."""
    rules = (settings.BASE_DIR / "static" / "css" / f"{sheet}.css").read_text()
    assert rules and ":has(" not in rules


def test_responses_name_the_build_and_not_the_version(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def build() -> str:
        build_id.cache_clear()
        answer = client.get("/login/")
        named = answer.headers["Steersman-Build"]
        assert f'data-build="{named}"' in answer.content.decode()
        return named

    before = build()
    assert before == build() and steersman.__version__ not in before
    with monkeypatch.context() as patch:
        patch.setattr(steersman, "__version__", "0.0.0")
        assert build() != before
    assert build() == before


def test_the_manifest_is_public_and_in_the_language_of_the_browser(client: Client) -> None:
    answer = client.get("/manifest.webmanifest", headers={"accept-language": "zh-CN"})
    assert answer.headers["Content-Type"] == "application/manifest+json"
    told = answer.json()
    assert (told["lang"], told["start_url"], told["display"]) == ("zh-hans", "/", "standalone")
    assert "PyTorch" in told["description"] and not told["description"].isascii()
