"""The former name of the project: `train`, `serve` and `doctor` say in one sentence that it has no effect."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys

import pytest

from steersman.former_name import former_name_notice
from tests.support.stack import ROOT


def test_it_names_each_variable_and_the_folder_in_one_sentence(tmp_path):
    (tmp_path / ".coxswain").mkdir()
    environment = {"COXSWAIN_PORT": "1", "COXSWAIN_DATA": "/x", "STEERSMAN_BIND": "::1", "HOME": "/"}
    assert former_name_notice(environment, tmp_path) == (
        "Coxswain is called Steersman now: rename the environment variables COXSWAIN_DATA to STEERSMAN_DATA, "
        f"COXSWAIN_PORT to STEERSMAN_PORT, and data in {tmp_path}/.coxswain is not read: .steersman is used "
        "(delete the old one to end this notice)."
    )


def test_it_is_silent_without_them(tmp_path):
    assert former_name_notice({"STEERSMAN_DATA": "/x"}, tmp_path) == ""


@pytest.mark.parametrize("command", [("train", "--run-id", "1"), ("serve",)])
def test_train_and_serve_print_the_sentence(command, tmp_path):
    # A port in use ends `serve` early, a database without tables `train`.
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = {"STEERSMAN_PORT": str(taken.getsockname()[1]), "STEERSMAN_BIND": "127.0.0.1"}
        environment = os.environ | {"STEERSMAN_DATA": str(tmp_path), "COXSWAIN_PUSH_MS": "80"} | port
        ended = subprocess.run(
            [sys.executable, "manage.py", *command], cwd=ROOT, env=environment, capture_output=True, text=True
        )
    assert ended.returncode != 0
    assert ended.stderr.count("COXSWAIN_PUSH_MS to STEERSMAN_PUSH_MS.") == 1


def test_doctor_warns(tmp_path):
    environment = os.environ | {"STEERSMAN_DATA": str(tmp_path), "COXSWAIN_PUSH_MS": "80"}
    ended = subprocess.run(
        [sys.executable, "manage.py", "doctor", "--json"], cwd=ROOT, env=environment, capture_output=True, text=True
    )
    findings = {each["name"]: each for each in json.loads(ended.stdout)["checks"]}
    assert findings["Name"]["level"] == "warning"
    assert "COXSWAIN_PUSH_MS" in findings["Name"]["text"]
