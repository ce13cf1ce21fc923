"""The command line and configuration of a script in the record of its run."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path

import pytest
from django.contrib.auth.models import User
from django.test import Client

from runs.models import Membership, Project, Run
from tests.chaos.slots import build_stub
from tests.support.stack import ROOT, create_run, events, rows, run_row

# The UUID of the fake's second GPU.
UUID = "GPU-bbbbbbbb-1111-1111-1111-111111111111"
SCRIPT = str(ROOT / "tests" / "commands" / "configured_training.py")


def test_the_record_has_command_line_and_parameters_without_what_must_not_leave(offline_stack, tmp_path):
    (tmp_path / "libnvidia-ml.so.1").write_bytes(b"no library")
    run_id = create_run(offline_stack)
    out = str(Path.home() / "a" / "b")
    trained = offline_stack.train(
        run_id, "--quiet", "--", SCRIPT, f"--out={out}", "--lr", "0.2", LD_LIBRARY_PATH=str(tmp_path)
    )
    assert trained.wait(60) == 0, offline_stack.log()
    run = run_row(offline_stack, run_id)
    parameters = json.loads(run["parameters"])
    assert parameters["lr"] == 0.3 and parameters["layers"] == [64, 64]
    assert parameters["out"] == "~/a/b" and parameters["data"]["root"] == "~/a/b"
    assert parameters["api_key"] == parameters["data"]["password"] == "<secret>"
    optimizer = {"name": "adamw", "betas": {"first": 0.9, "second": 0.95}, "hub_token": "<secret>"}
    assert parameters["optimizer"] == optimizer and parameters["seed"] == 7 and parameters["second"] == 0.9
    (attempt,) = rows(offline_stack, "SELECT * FROM runs_attempt WHERE run_id = ?", run_id)
    assert not {"gpus", "driver"} & json.loads(attempt["environment"]).keys(), "there is no driver"
    words = json.loads(attempt["command_line"])
    assert words[1:] == ["--out=~/a/b", "--lr", "0.2"] and words[0].endswith("tests/commands/configured_training.py")
    assert str(Path.home()) not in attempt["command_line"] + run["parameters"]
    assert events(offline_stack, run_id, "environment"), "pages read the parameters again"
    lines = [line["text"] for event in events(offline_stack, run_id, "log") for line in event["lines"]]
    assert len([line for line in lines if "configure() takes a mapping, a dataclass" in line]) == 2, lines


def git(folder: Path, *words: str, given: str | None = None) -> str:
    made = subprocess.run(
        ["git", "-c", "user.name=Ada", "-c", "user.email=ada@example.org", *words],
        cwd=folder, check=True, capture_output=True, text=True, input=given,
    )  # fmt: skip
    return made.stdout


def test_a_run_of_a_dirty_tree_can_be_repeated(offline_stack, tmp_path, tmp_path_factory):
    """The recorded patch, applied to the commit, restores the script that ran; the record has the GPUs too."""
    driver = build_stub(tmp_path_factory.mktemp("nvml"))
    script = tmp_path / "train.py"
    shutil.copy(SCRIPT, script)
    git(tmp_path, "init", "--quiet")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "--quiet", "-m", "as committed")
    committed = script.read_text()
    script.write_text(changed := committed.replace("layers=[64, 64]", "layers=[32]") + "print('größer')\n")
    run_id = create_run(offline_stack)
    visible = {"LD_LIBRARY_PATH": str(driver), "CUDA_VISIBLE_DEVICES": "1"}
    trained = offline_stack.train(run_id, "--quiet", "--", "train.py", cwd=tmp_path, **visible)
    assert trained.wait(60) == 0, offline_stack.log()
    (attempt,) = rows(offline_stack, "SELECT * FROM runs_attempt WHERE run_id = ?", run_id)
    environment = json.loads(attempt["environment"])
    assert environment["git"]["commit"] == git(tmp_path, "rev-parse", "HEAD").strip() and environment["git"]["changed"]
    assert "torch" in environment["packages"] and environment["python"] and "executable" in environment
    assert (environment["gpus"], environment["driver"]) == (["Stub 1"], "550.54.15")
    assert environment["cuda_devices"] == [{"index": 0, "name": "Stub 1", "uuid": UUID, "memory_mib": 16384}]
    (held,) = rows(offline_stack, "SELECT gpu_s, gpus_held FROM runs_run WHERE id = ?", run_id)
    assert held["gpu_s"] > 0 and held["gpus_held"] == 0
    git(tmp_path, "checkout", "--quiet", ".")
    assert script.read_text() == committed
    git(tmp_path, "apply", given=offline_stack.manage("patch", str(run_id)).stdout)
    assert script.read_text() == changed


@pytest.mark.django_db
def test_who_may_command_downloads_the_patch() -> None:
    project = Project.objects.create(name="Lab", slug="lab")
    run = Run.objects.create(project=project, name="mine", attempt=2)
    for number, patch in ((1, "--- a/x\n+++ b/x\n"), (2, "")):
        run.attempts.create(number=number, host="h", boot_id="b", supervisor_pid=1, patch=patch)
    answers, by_api = {}, {}
    for role in ("viewer", "operator"):
        user = User.objects.create_user(role)
        Membership.objects.create(project=project, user=user, role=role)
        client = Client()
        client.force_login(user)
        answers[role] = [client.get(f"/runs/{run.pk}/attempts/{number}/patch/") for number in (1, 2, 2**70)]
        by_api[role] = [client.get(f"/api/runs/{run.pk}/patch/{query}") for query in ("", "?attempt=1", "?attempt=2")]
        assert (b'data-testid="patch"' in client.get(f"/runs/{run.pk}/").content) == (role == "operator")
    assert [answer.status_code for answer in answers["viewer"]] == [403, 403, 403]
    assert [answer.status_code for answer in answers["operator"]] == [200, 404, 404]
    assert [answer.status_code for answer in by_api["viewer"]] == [403, 403, 403]
    assert [answer.status_code for answer in by_api["operator"]] == [200, 200, 404]
    assert by_api["operator"][0].content == by_api["operator"][1].content == answers["operator"][0].content
    assert "so there is no patch" in by_api["operator"][2].json()["error"]
    assert answers["operator"][0].content == b"--- a/x\n+++ b/x\n"
    assert "run-" in answers["operator"][0]["Content-Disposition"]
