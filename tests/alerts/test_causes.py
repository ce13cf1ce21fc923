"""Causes of alerts and commands are stored as a kind with values, and shown in the reader's language."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any, get_args
from uuid import uuid4

import msgspec
import pytest
from django.contrib.auth.models import User
from django.test import Client
from django.utils import translation

from runs.access.guest_view import replace_names
from runs.alerts.wording.texts import action_text, reason_of, reason_of_run, texts_of
from runs.commands.record import record
from runs.models import Alert, Command, CommandState, HeldBack, Run, RunState, StoredEvent, alert_as_wire, as_wire
from runs.protocol.causes import (
    AfterRollBack,
    AlertCause,
    BeganInLayer,
    CommandCause,
    Death,
    EndCause,
    EndedByReboot,
    EndedBySignal,
    EndedUnwatched,
    EndedWithCode,
    KilledForMemory,
    LittleSpace,
    OfAlert,
    OfLink,
    Silence,
    SilentHost,
    stored,
)
from runs.protocol.causes import alert_cause as kept_alert_cause
from runs.protocol.commands import Request, Stop
from runs.recording.lifecycle import AttemptEnd, Lease, complete_command, end_attempt, mark_lost
from runs.recording.state_alerts import GIB, note_disk
from runs.recording.status import status_of
from runs.replaying.replay import replay
from steersman.agent.machine.out_of_memory import KILLED
from steersman.agent.machine.redactor import Redactor
from tests.alerts.test_judging import begin as begin
from tests.alerts.test_judging import lease as lease
from tests.alerts.test_rules_act import alert_of, rule_of
from tests.support.stack import ROOT
from trainer.control.exit_status import redacted

SILENT = ("No heartbeat from the training host for 12 s.", "训练主机已 12 秒没有心跳。")
SILENT_HOST = (
    "No contact with the training host since 2026-11-29 14:03 UTC. If the training is still running, its records "
    "are on the disk of that host.",
    "自 2026-11-29 14:03 UTC 起没有收到训练主机的消息。如果训练仍在运行，其记录保存在该主机的磁盘上。",
)
DEAD = ("The training and its supervisor have died on this host. The cause is being determined.", "正在查明")
FULL = ("4.0 GiB of 100.0 GiB are free.", "100.0 GiB 中还剩 4.0 GiB 可用。")


def newest_event(run_id: int) -> dict[str, Any]:
    frame = StoredEvent.objects.filter(run_id=run_id, kind="alert").latest("seq").frame
    found: dict[str, Any] = msgspec.json.decode(frame)
    return found


@pytest.mark.parametrize(
    ("detector", "cause", "said"),
    [
        ("lost", Silence(seconds=12), SILENT),
        ("lost", SilentHost(since="2026-11-29T14:03:59.123456Z"), SILENT_HOST),
        ("lost", Death(), DEAD),
        ("disk", LittleSpace(free=4.0, total=100.0), FULL),
    ],
)
def test_an_alert_of_a_run_as_a_whole_is_told_in_both_languages(
    lease: Lease, detector: str, cause: AlertCause, said: tuple[str, str]
) -> None:
    # The process that stores it may be serving a reader of another language.
    with translation.override("zh-hans"):
        if isinstance(cause, LittleSpace):
            note_disk(lease.run_id, lease.number, 4 * GIB, 100 * GIB)
        else:
            assert mark_lost(lease.run_id, lease.number, Run.objects.get().heartbeat, cause)
    alert = Alert.objects.get(detector=detector)
    for language, part in zip(("en", "zh-hans"), said, strict=True):
        with translation.override(language):
            assert part in texts_of(alert).text
    # The API and events are in English, and have the data from which the page makes its text.
    for told in (alert_as_wire(alert), newest_event(lease.run_id)):
        assert told["text"] == said[0] and told["cause"] == stored(cause)


def test_the_layer_in_which_it_began_is_told_in_both_languages() -> None:
    for times, english, chinese in (
        (
            8.25,
            "gradient norm was 8.2× its usual value at step 1,204.",
            "故障始于 layer4.1.conv2：第 1,204 步的梯度范数是平时的 8.2 倍。",
        ),
        (None, "gradient norm was not finite at step 1,204.", "第 1,204 步的梯度范数不是有限值。"),
    ):
        cause = BeganInLayer(layer="layer4.1.conv2", measure="gradient", step=1204, times=times)
        alert = Alert(detector="divergence", cause=stored(cause))
        assert texts_of(alert).text == (
            f"The metric gets worse instead of better. The fault began in layer4.1.conv2, whose {english}"
        )
        with translation.override("zh-hans"):
            assert chinese in texts_of(alert).text


ENDS: list[tuple[EndCause, str, str]] = [
    (EndedBySignal(signal="SIGKILL"), "The training process was ended by SIGKILL.", "训练进程被 SIGKILL 终止。"),
    (EndedBySignal(signal="SIGKILL", rank=2), "Rank 2 was ended by SIGKILL.", "第 2 号进程被 SIGKILL 终止。"),
    (
        EndedWithCode(code=3, last_line="100 % lost"),
        "The training process ended with exit code 3. Its last line was: 100 % lost",
        "训练进程以退出码 3 结束。 最后一行输出是：100 % lost",
    ),
    (
        EndedUnwatched(),
        "The training process ended without a supervisor and left no exit record, so its exit status is unknown.",
        "未知",
    ),
    (
        EndedByReboot(),
        "The host was rebooted or lost power, and the training process left no exit record: probably it ended then.",
        "重启",
    ),
    (KilledForMemory(), KILLED, "主机内存不足"),
    (
        KilledForMemory(rank=1),
        f"Rank 1 ran out of host memory{KILLED.removeprefix('Out of host memory')}",
        "第 1 号进程用尽了主机内存",
    ),
]


@pytest.mark.parametrize(("cause", "english", "chinese"), ENDS)
def test_how_a_run_ended_is_told_in_both_languages(lease: Lease, cause: EndCause, english: str, chinese: str) -> None:
    with translation.override("zh-hans"):
        end_attempt(lease, AttemptEnd.of(RunState.FAILED, cause))
        run, alert = Run.objects.get(), Alert.objects.get(detector="crash")
        assert chinese in reason_of_run(run) and chinese in texts_of(alert).text
    assert (run.reason, alert.text, reason_of_run(run), texts_of(alert).text) == (english,) * 4
    told = msgspec.json.decode(StoredEvent.objects.filter(run=run, kind="status").latest("seq").frame)
    assert (told["reason"], told["cause"]) == (english, stored(cause))


def test_what_is_added_to_a_reason_stays_in_it(lease: Lease) -> None:
    end_attempt(lease, AttemptEnd.of(RunState.FAILED, EndedWithCode(code=3)), remark="Not started again.")
    run = Run.objects.get()
    with translation.override("zh-hans"):
        assert reason_of_run(run) == "The training process ended with exit code 3. Not started again."
    assert status_of(run).cause is None


def test_a_secret_in_the_last_line_is_in_no_cause(tmp_path: Path) -> None:
    redactor = Redactor(tmp_path, tmp_path)
    open_end = AttemptEnd.of(RunState.FAILED, EndedWithCode(code=1, last_line=f"no file {tmp_path}/data"))
    plain = AttemptEnd.of(RunState.FAILED, EndedWithCode(code=1, last_line="no file"))
    found = redacted(open_end, redactor)
    assert str(tmp_path) not in found.error and found.cause is None
    assert redacted(plain, redactor) == plain


def test_why_a_rule_did_not_act_is_told_in_both_languages(lease: Lease) -> None:
    with translation.override("zh-hans"):
        alert = alert_of(lease, rule_of(lease, knob="momentum"))
    assert (alert.held_back, alert.action_text) == (HeldBack.NO_KNOB, "The training has no such knob.")
    assert newest_event(lease.run_id)["held_back"] == "no_knob"
    with translation.override("zh-hans"):
        assert "训练没有这个" in action_text(alert)


def test_the_admin_tells_an_alert_in_the_language_of_the_page(lease: Lease) -> None:
    note_disk(lease.run_id, lease.number, 4 * GIB, 100 * GIB)
    held_back = alert_of(lease, rule_of(lease, knob="momentum"))
    User.objects.create_superuser("admin")
    client = Client(headers={"accept-language": "zh-CN"})
    client.force_login(User.objects.get(username="admin"))
    for alert, chinese, english in (
        (Alert.objects.get(detector="disk"), ("磁盘", FULL[1]), ("Disk nearly full", FULL[0], "little_space")),
        (held_back, ("尖峰", "训练没有这个"), ("Spike", "no such knob")),
    ):
        page = client.get(f"/admin/runs/alert/{alert.pk}/change/").content.decode()
        assert [part for part in chinese if part not in page] == []
        assert [part for part in english if part in page] == []


def commands_of(lease: Lease) -> list[tuple[Command, str, str]]:
    """Return a command of a rule, of a link and of a replay, with their reasons in English and Chinese."""
    run = Run.objects.get(pk=lease.run_id)
    alert = alert_of(lease, rule_of(lease))
    link = OfLink(alert=alert.pk, detector="spike", title="Spike", destination="on call")
    by_link = record(run.pk, Request(id=uuid4(), command=Stop()).caused_by(link), author_id=None, author_name="Ada")
    rule = Command.objects.get(pk=alert.command_id)
    complete_command(rule, CommandState.APPLIED, step=4)
    other = Run.objects.create(project=run.project, name="other", state="paused", attempt=1)
    (again,) = replay(run, other, author_id=None, author_name="Ada")
    return [
        (rule, "Spike · train/loss", "尖峰 · train/loss"),
        (by_link, f"Alert {alert.pk}: Spike · by a link sent to on call", "尖峰 · 通过发给 on call 的链接"),
        (again, f"Replay of run {run.pk}.", f"重放运行 {run.pk}。"),
    ]


def test_the_command_log_tells_reasons_in_the_language_of_the_reader(lease: Lease) -> None:
    User.objects.create_superuser("admin")
    client = Client(headers={"accept-language": "zh-CN"})
    client.force_login(User.objects.get(username="admin"))
    for command, english, chinese in commands_of(lease):
        assert command.reason == english == as_wire(command)["reason"]
        with translation.override("zh-hans"):
            assert chinese in reason_of(command)
        page = client.get(f"/admin/runs/run/{command.run_id}/change/").content.decode()
        assert chinese in page and english not in page


def test_what_a_person_gave_as_reason_and_what_code_calls_its_alert_stay(lease: Lease) -> None:
    command = Command(reason="Spike", cause={})
    of_code = OfAlert(detector="code", title="Spike", series="")
    with translation.override("zh-hans"):
        assert reason_of(command) == "Spike" and of_code.words(translation.gettext) == "Spike"


def test_a_share_link_is_not_told_whom_a_message_was_sent_to(lease: Lease) -> None:
    _, (by_link, english, _), _ = commands_of(lease)
    told = as_wire(by_link)
    replace_names([told])
    assert "on call" in english and "on call" not in str(told)
    assert told["reason"].endswith("by a link of a message")


def test_a_cause_of_another_version_leaves_the_english_text() -> None:
    assert kept_alert_cause({"kind": "flood"}) is None and kept_alert_cause({}) is None
    alert = Alert(detector="lost", title="Lost", text="Under water.", cause={"kind": "flood"})
    assert texts_of(alert).text == "Under water."


def test_the_page_knows_every_kind() -> None:
    script = (ROOT / "static/js/shared/alert_texts.js").read_text()
    kinds = {each.__struct_config__.tag for each in get_args(AlertCause | CommandCause | AfterRollBack)}
    assert kinds == set(re.findall(r'case "(\w+)":', script))
    reasons = script.partition("const reasons = {")[2].partition("};")[0]
    assert dict(re.findall(r'(\w+): gettext\("([^"]+)"\)', reasons)) == dict(translated(HeldBack.choices))


def translated(choices: list[tuple[str, str]]) -> list[tuple[str, str]]:
    with translation.override("en"):
        return [(value, str(label)) for value, label in choices]
