"""The doctor: its findings and remedies, and that it never hangs and never shows a secret."""

from __future__ import annotations

import json
import os
import socket
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import closing
from io import StringIO
from pathlib import Path

import pytest
from django.conf import LazySettings
from django.core import mail
from django.core.management import CommandError, call_command

from monitor_site.serving.doctor import machine, services
from monitor_site.serving.doctor.report import Check, Finding, examine, report
from monitor_site.serving.management.commands.doctor import hide_secrets
from tests.support import postgres
from tests.support.stack import ROOT, Stack, seed_stack

ROWS = [
    "Python", "torch", "CUDA", "NVML", "disk", "clock", "database", "recipes", "embedded server", "Redis",
    "channel layer", "static files", "directory", "pushed copies", "mail", "public address",
]  # fmt: skip
# In a separate process, torch takes seconds to answer; these scripts answer at once.
CPU_TORCH = 'print(\'{"version": "2.9.0+cpu", "cuda": null, "devices": []}\')'
NO_NVML = 'print(\'{"problem": "the library is not on this host", "names": [], "driver": ""}\')'
TWO_GPUS = 'print(\'{"problem": "", "names": ["GPU 0 A100", "GPU 1 A100"], "driver": "570.1"}\')'


def run_doctor(stack: Stack, *arguments: str, **variables: str) -> tuple[int, dict[str, dict[str, str]], str]:
    """Return exit code, findings by name, and the whole output."""
    result = subprocess.run(
        stack.command("doctor", "--json", *arguments),
        env=stack.environment | variables, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    found = json.loads(result.stdout)
    assert found["problems"] == sum(each["level"] == "problem" for each in found["checks"])
    by_name = {each["name"]: each for each in found["checks"]}
    assert [name for name in by_name if name != "disk"] == [name for name in ROWS if name != "disk"]
    return result.returncode, by_name, result.stdout + result.stderr


def test_it_finds_no_problem_in_a_stack_that_runs(stack: Stack):
    stack.manage("recipes", "--publish")
    code, found, _ = run_doctor(stack)
    assert {name for name, each in found.items() if each["level"] == "problem"} <= {"static files"}
    assert code == (1 if found["static files"]["level"] == "problem" else 0)
    for name in ("Python", "torch", "disk", "database", "recipes", "embedded server", "Redis", "channel layer"):
        assert found[name]["level"] == "ok", found[name]
    assert "ms" in found["channel layer"]["text"]


def test_it_says_what_is_missing_before_set_up_and_what_to_do(tmp_path: Path):
    with Stack(tmp_path / "data") as bare:
        result = bare.manage("doctor", check=False)
    assert result.returncode == 1
    lines = result.stdout.splitlines()
    assert {line.split()[0] for line in lines} <= {"ok", "warning", "problem"}
    (of_database,) = [line for line in lines if line.split()[1] == "database"]
    assert of_database.startswith("problem") and of_database.endswith("Run manage.py migrate.")
    (of_recipes,) = [line for line in lines if line.split()[1] == "recipes"]
    assert of_recipes.startswith("problem")
    (of_redis,) = [line for line in lines if line.split()[1] == "Redis"]
    assert of_redis.startswith("warning") and "make serve" in of_redis
    assert not result.stderr


def test_it_names_a_file_that_gives_no_space_back_until_it_is_written_anew(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv(postgres.VARIABLE, raising=False)
    look = "from monitor_site.serving.doctor.services import database; print(database()[0])"
    with Stack() as old:
        seed_stack(old)
        with closing(sqlite3.connect(old.data / "steersman.sqlite3", timeout=20)) as file:
            file.execute("PRAGMA auto_vacuum=NONE")
            file.execute("VACUUM")
        warned = old.manage("shell", "-v", "0", "-c", look).stdout
        assert "level='warning'" in warned and "does not shrink after deletions" in warned
        assert "manage.py prune --rebuild" in warned
        old.manage("prune", "--rebuild")
        assert "level='ok'" in old.manage("shell", "-v", "0", "-c", look).stdout


@pytest.fixture
def silent_server() -> Iterator[int]:
    """A port that accepts connections and never sends anything."""
    with socket.create_server(("127.0.0.1", 0), backlog=8) as server:
        yield server.getsockname()[1]


def test_it_outlives_servers_that_never_answer_and_shows_no_secret(offline_stack: Stack, silent_server: int):
    secrets = {"redis": "redis-pass-1234", "mail": "mail-pass-5678", "key": "secret-key-" + "k" * 50}
    code, found, printed = run_doctor(
        offline_stack,
        "--mail",
        "ann@example.org",
        STEERSMAN_REDIS_URL=f"redis://ann:{secrets['redis']}@127.0.0.1:{silent_server}/0",
        STEERSMAN_EMAIL_URL=f"smtp://ann:{secrets['mail']}@127.0.0.1:{silent_server}",
        STEERSMAN_SECRET_KEY=secrets["key"],
    )
    assert code == 1
    for name in ("Redis", "channel layer", "mail"):
        assert found[name]["level"] == "problem", found[name]
    assert f"redis://127.0.0.1:{silent_server}/0" in found["Redis"]["text"]
    assert not [secret for secret in secrets.values() if secret in printed]
    assert "Traceback" not in printed


def test_a_check_that_hangs_or_breaks_ends_with_a_sentence_and_the_others_go_on():
    release = threading.Event()

    def hang() -> Finding:
        release.wait(60)
        return Finding("one", "ok", "late")

    def break_down() -> Finding:
        raise RuntimeError("the password is hunter22\nsecond line")

    checks = [
        Check("one", hang, deadline_s=0.05),
        Check("two", break_down),
        Check("three", lambda: [Finding("three", "ok", "a"), Finding("three", "warning", "b", "do c")]),
    ]
    found = examine(checks, lambda text: text.replace("hunter22", "…"))
    release.set()
    assert [(each.name, each.level) for each in found] == [
        ("one", "problem"), ("two", "problem"), ("three", "ok"), ("three", "warning"),
    ]  # fmt: skip
    assert "no answer within 0.05 s" in found[0].text
    assert found[1].text == "RuntimeError: the password is …"
    assert {name: report(found)[name] for name in ("ok", "problems", "warnings")} == {
        "ok": False, "problems": 2, "warnings": 1,
    }  # fmt: skip


def by_name(found: list[Finding]) -> dict[str, Finding]:
    return {each.name: each for each in found}


def test_a_host_without_gpu_has_no_problem():
    found = by_name(machine.torch_and_gpus(CPU_TORCH, NO_NVML))
    if Path("/dev/nvidiactl").exists():
        pytest.skip("this host has an NVIDIA device")
    assert [each.level for each in found.values()] == ["ok", "ok", "ok"]
    assert "built for the CPU" in found["torch"].text


def test_it_names_every_gpu():
    torch = CPU_TORCH.replace("null", '"12.8"').replace("[]", '["A100 (80 GiB)", "A100 (40 GiB)"]')
    found = by_name(machine.torch_and_gpus(torch, TWO_GPUS))
    assert found["CUDA"] == Finding("CUDA", "ok", "2 GPUs: cuda:0 A100 (80 GiB), cuda:1 A100 (40 GiB)")
    assert found["NVML"] == Finding("NVML", "ok", "driver 570.1: GPU 0 A100, GPU 1 A100")


@pytest.mark.parametrize(
    ("cuda", "visible", "remedy"),
    [
        ("null", None, "Install a CUDA build"),
        ('"12.8"', None, "too old for CUDA 12.8"),
        ('"12.8"', "7", "CUDA_VISIBLE"),
    ],
)
def test_it_says_why_torch_sees_no_gpu(monkeypatch: pytest.MonkeyPatch, cuda: str, visible: str | None, remedy: str):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if visible is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    found = by_name(machine.torch_and_gpus(CPU_TORCH.replace("null", cuda), TWO_GPUS))
    assert found["CUDA"].level == "problem"
    assert remedy in found["CUDA"].remedy


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("import no_such_torch", "No module named 'no_such_torch'"),
        ("import os; os._exit(3)", "exit code 3"),
        (CPU_TORCH.replace("2.9.0", "2.6.1"), "2.6.1"),
    ],
)
def test_a_torch_that_does_not_load_or_is_old_is_a_problem(script: str, said: str):
    found = by_name(machine.torch_and_gpus(script, NO_NVML))
    assert found["torch"].level == "problem"
    assert said in found["torch"].text
    assert "requirements.txt" in found["torch"].remedy


def test_a_driver_that_hangs_is_named(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "NVML_TIMEOUT_S", 0.2)
    found = by_name(machine.torch_and_gpus(CPU_TORCH, "import time; time.sleep(60)"))
    assert found["NVML"].level == "problem"
    assert "nvidia-smi" in found["NVML"].remedy
    assert found["torch"].level == "ok"


def test_a_torch_that_hangs_is_not_called_missing(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(machine, "TORCH_TIMEOUT_S", 0.2)
    found = by_name(machine.torch_and_gpus("import time; time.sleep(60)", NO_NVML))
    assert found["torch"].level == "problem" and "no answer within 0.2 s" in found["torch"].text
    assert "nvidia-smi" in found["torch"].remedy and "pip install" not in found["torch"].remedy


def test_the_real_probes_answer():
    assert machine.probe(machine.NVML_PROBE, 60)["names"] is not None
    assert machine.probe(machine.TORCH_PROBE, 120)["version"]


@pytest.mark.parametrize(("free_gib", "level"), [(0.5, "problem"), (3, "warning"), (50, "ok")])
def test_it_warns_of_a_disk_that_fills(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, free_gib: float, level: str):
    tmp_path.chmod(0o700)
    usage = type("Usage", (), {"free": free_gib * machine.GIB})
    monkeypatch.setattr(machine.shutil, "disk_usage", lambda path: usage)
    (found,) = machine.disk(tmp_path)
    assert (found.level, f"{free_gib:.1f} GiB" in found.text) == (level, True)
    assert not list(tmp_path.iterdir())


def test_it_says_that_the_data_folder_is_open_or_cannot_be_written(tmp_path: Path):
    tmp_path.chmod(0o755)
    assert "chmod 700" in machine.disk(tmp_path)[-1].remedy
    (gone,) = machine.disk(tmp_path / "gone")
    assert (gone.level, "STEERSMAN_DATA" in gone.remedy) == ("problem", True)


@pytest.mark.parametrize(
    ("kept", "skew_s", "level", "said"),
    [
        (True, None, "ok", "synchronised by NTP"),
        (True, 0.01, "ok", "10 ms"),
        (None, None, "ok", "does not report"),
        (False, None, "warning", "not synchronised"),
        (True, 5.0, "problem", "5.0 s ahead of"),
        (False, -5.0, "problem", "5.0 s behind"),
    ],
)
def test_it_judges_the_clock(
    monkeypatch: pytest.MonkeyPatch, kept: bool | None, skew_s: float | None, level: str, said: str
):
    monkeypatch.setattr(services, "clock_is_kept", lambda: kept)
    monkeypatch.setattr(services, "_database_skew", lambda: skew_s)
    found = services.clock()
    assert (found.level, said in found.text) == (level, True), found


def test_it_reads_the_clock_of_this_kernel_without_setting_it():
    assert machine.clock_is_kept() in (True, False, None)


def test_it_tells_how_static_files_are_served(tmp_path: Path):
    sources, built = tmp_path / "static", tmp_path / "built"
    (sources / "vendor").mkdir(parents=True)
    built.mkdir()
    assert services.static_files(sources, built).level == "problem"
    (sources / "vendor" / "stamp.txt").touch()
    assert "not collected" in services.static_files(sources, built).text
    (built / "staticfiles.json").touch()
    assert services.static_files(sources, built).level == "ok"
    os.utime(built / "staticfiles.json", (1, 1))
    assert "changed after they were collected" in services.static_files(sources, built).text


def test_it_names_recipes_that_the_portal_does_not_know(db: None, settings: LazySettings):
    settings.STEERSMAN_RECIPES = ["no such recipe"]
    found = services.recipes()
    assert [each.level for each in found] == ["problem", "warning"]
    assert "no such recipe" in found[0].text
    assert "mnist, digits, transformer" in found[1].text


def test_it_hands_a_test_message_over(settings: LazySettings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.locmem.EmailBackend"
    found = services.mail("ann@example.org")
    assert [message.to for message in mail.outbox] == [["ann@example.org"]]
    assert found.level == "warning" and "STEERSMAN_EMAIL_URL" in found.remedy


@pytest.mark.parametrize(
    ("backend", "said"),
    [
        ("console", "to the terminal"),
        ("filebased", "files in /var/mails"),
        ("locmem", "in memory"),
        ("dummy", "discarded"),
    ],
)
def test_it_tells_what_becomes_of_mail_that_nobody_receives(settings: LazySettings, backend: str, said: str):
    settings.EMAIL_BACKEND = f"django.core.mail.backends.{backend}.EmailBackend"
    settings.EMAIL_FILE_PATH = "/var/mails"
    found = services.mail()
    assert found.level == "warning" and said in found.text and "instead of being sent" in found.text
    assert "STEERSMAN_EMAIL_URL" in found.remedy


def test_it_takes_a_backend_of_others_for_one_that_sends(settings: LazySettings):
    settings.EMAIL_BACKEND = "anymail.backends.mailgun.EmailBackend"
    found = services.mail()
    assert found.level == "ok" and "anymail.backends.mailgun" in found.text


def test_it_tells_how_mail_goes_without_its_password(settings: LazySettings):
    settings.EMAIL_BACKEND = "django.core.mail.backends.smtp.EmailBackend"
    settings.EMAIL_HOST, settings.EMAIL_PORT, settings.EMAIL_HOST_PASSWORD = "mail.example.org", 587, "hunter22"
    found = services.mail()
    assert found.level == "ok"
    assert "mail.example.org:587" in found.text
    assert "hunter22" not in found.text
    assert not mail.outbox


@pytest.mark.parametrize(
    ("address", "level", "said"),
    [
        ("", "warning", "not set"),
        ("https://train.example.org", "ok", "https://train.example.org"),
        ("http://localhost:8765", "warning", "on this host"),
        ("https:///runs", "problem", "must be an http"),
    ],
)
def test_it_tells_whether_links_in_messages_reach_people(settings: LazySettings, address: str, level: str, said: str):
    settings.STEERSMAN_PUBLIC_URL = address
    found = services.public_address()
    assert (found.level, said in found.text) == (level, True)
    assert found.level == "ok" or found.remedy


def test_it_refuses_what_is_no_mail_address():
    with pytest.raises(CommandError, match="not a mail address") as refused:
        call_command("doctor", mail="nobody", stdout=StringIO())
    assert refused.value.returncode == 2


@pytest.mark.parametrize(
    ("url", "shown", "password"),
    [
        ("redis://ann:p%40ss1@cache:6380/2", "redis://cache:6380/2", "p@ss1"),
        ("rediss://cache", "rediss://cache", ""),
        ("unix:///run/redis.sock?password=hunter22", "unix:///run/redis.sock", "hunter22"),
        ("redis://cache:no-port", "redis://cache", ""),
    ],
)
def test_it_shows_an_address_without_what_opens_it(url: str, shown: str, password: str):
    assert services.shown_address(url) == shown
    assert services.password_of(url) == password


def test_it_hides_the_settings_secrets_in_any_text(settings: LazySettings):
    settings.EMAIL_HOST_PASSWORD = "hunter22"
    settings.STEERSMAN_REDIS_URL = "redis://:redis-pass@cache"
    assert hide_secrets(f"a hunter22 b redis-pass c {settings.SECRET_KEY}") == "a … b … c …"


def test_it_never_loads_torch_itself():
    script = (
        "import sys, django; django.setup(); import monitor_site.serving.management.commands.doctor; "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, timeout=60,
        env=os.environ | {"DJANGO_SETTINGS_MODULE": "monitor_site.settings"},
    )  # fmt: skip
    assert done.stdout.strip() == "False", done.stderr
