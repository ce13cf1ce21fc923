"""Private data is removed from texts that leave the training host, and nothing else is."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest

from steersman.agent.launch.spawn import worker_environment
from steersman.agent.machine.redactor import Redactor
from steersman.agent.machine.secret_values import secret_texts

APPLICATION = Path("/opt/steersman")
KEY = "q7Zp2Lx9Vb4Nc8Rt1Wm6"


def redactor(monkeypatch: pytest.MonkeyPatch, folder: Path, user: str, host: str = "gpu7") -> Redactor:
    monkeypatch.setattr("steersman.agent.machine.redactor.socket.gethostname", lambda: host)
    monkeypatch.setattr("steersman.agent.machine.redactor.socket.getfqdn", lambda: host)
    monkeypatch.setattr("steersman.agent.machine.redactor._user_name", lambda: user)
    return Redactor(folder / "data", APPLICATION, {})


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("reading {data}/datasets", "reading <data>/datasets"),
        ("reading {home}/notes", "reading ~/notes"),
        ("token=s3cr3t-value!", "token=<secret>"),
        ("at /opt/steersman/trainer/loop.py", "at <steersman>/trainer/loop.py"),
        ("nothing to hide", "nothing to hide"),
    ],
)
def test_it_takes_out_what_must_not_leave(tmp_path: Path, text: str, shown: str) -> None:
    environment = {"MY_TOKEN": "s3cr3t-value!", "SHORT_KEY": "abc", "PLAIN": "nothing"}
    found = Redactor(tmp_path / "data", APPLICATION, environment)
    assert found.text(text.format(data=tmp_path / "data", home=Path.home())) == shown


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("DB_PASS", "p4ssw0rd"),
        ("MYSQL_PWD", "hunter22"),
        ("GITLAB_PAT", "abc123def"),
        ("PGPASSWORD", "tr0ub4dor"),
        ("WANDB_API_KEY", "0f" * 20),
        ("SLACK_WEBHOOK", f"https://hooks.slack.com/services/T1/B2/{KEY}"),
        ("WHATEVER", "ghp_abcdefghijkl0123"),
        ("WHATEVER", KEY),
        ("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"),
    ],
)
def test_a_variable_that_opens_a_door_is_a_secret(name: str, value: str) -> None:
    hidden = secret_texts({name: value})
    shown = value
    for text in sorted(hidden, key=len, reverse=True):
        shown = shown.replace(text, "<secret>")
    assert shown in ("<secret>", "https://hooks.slack.com/services/T1/B2/<secret>")


@pytest.mark.parametrize(
    ("name", "url"),
    [
        ("HTTPS_PROXY", "http://ada:s3cr%40t99@proxy.example.org:8080"),
        ("DATABASE_URL", "postgres://ada:s3cr%40t99@db/app"),
        ("STEERSMAN_EMAIL_URL", "smtp+tls://ada@example.org:s3cr%40t99@mail.example.org:587"),
        ("ANYTHING", "redis://:s3cr%40t99@cache:6379/0"),
    ],
)
def test_the_password_of_a_url_is_a_secret_in_either_spelling(name: str, url: str) -> None:
    hidden = secret_texts({name: url})
    assert "s3cr@t99" in hidden and "s3cr%40t99" in hidden


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_TOKENS", "131072"),
        ("GIT_AUTHOR_NAME", "Marcel"),
        ("TOKEN", "131072"),
        ("PASSWORD", "training"),
        ("SSH_AUTH_SOCK", "/tmp/ssh-9aX/agent.7"),
        ("PWD", "/scratch/project7/run"),
        ("MODEL", "Qwen2.5-7B-Instruct-GPTQ-Int4"),
        ("BASE_MODEL", "meta-llama/Llama-3.1-8B-Instruct"),
        ("CUDA_VISIBLE_DEVICES", "GPU-8f3a1b2c-1234-5678-9abc-def012345678"),
        ("GIT_COMMIT", "2448c24f0b1a2c3d4e5f60718293a4b5c6d7e8f9"),
        ("PIP_INDEX_URL", "https://packages.example.org/simple/"),
        ("NOTEBOOK_ARGS", "--port=8888"),
        ("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True,max_split_size_mb:128"),
    ],
)
def test_words_numbers_paths_and_names_of_models_are_no_secrets(name: str, value: str) -> None:
    assert secret_texts({name: value}) == {}


@pytest.mark.parametrize(
    ("name", "value", "written"),
    [
        ("HF_TOKEN", "hf_abcdefghijklmnop\n", "hf_abcdefghijklmnop"),
        ("DEPLOY_KEY", f"-----BEGIN KEY-----\n{KEY}\n{KEY[::-1]}\n-----END KEY-----\n", f"2 {KEY[::-1]}"),
        ("GIT_REMOTE", "https://ghp_abcdefghijkl0123@github.com/a/b.git", "ghp_abcdefghijkl0123"),
        ("SENTRY_DSN", "https://0f0e0d0c0b0a0908@o1.ingest.sentry.io/2", "0f0e0d0c0b0a0908"),
        ("PIP_EXTRA_INDEX_URL", "https://a:p4ssw0rd@one/x https://b:tr0ub4dor@two/x", "b:tr0ub4dor@two"),
        ("BROKERS", "amqp://a:p4ssw0rd@one,amqp://b:tr0ub4dor@two", "tr0ub4dor"),
        ("OTLP_HEADERS", f"authorization=Bearer {KEY},x=1", KEY),
        ("MY_AUTH", f"Bearer {KEY}", KEY),
        ("CALLBACK", f"https://example.org/#access_token={KEY}", KEY),
    ],
)
def test_a_secret_within_a_value_is_hidden_alone_too(name: str, value: str, written: str) -> None:
    hidden = secret_texts({name: value})
    assert any(text in written for text in hidden)


def test_what_stands_between_secrets_is_shown() -> None:
    hidden = secret_texts(
        {
            "DEPLOY_KEY": f"-----BEGIN KEY-----\n{KEY}\n-----END KEY-----",
            "MY_AUTH": f"Bearer {KEY}",
            "GIT_REMOTE": "https://marcel@github.com/a/b.git",
        }
    )
    assert not hidden.keys() & {"-----BEGIN KEY-----", "-----END KEY-----", "Bearer", "marcel", "authorization"}


def test_a_long_value_costs_little() -> None:
    """The number at its beginning used to be tried at each of its digits."""
    assert secret_texts({"MY_TOKEN": "1" * 120_000 + "x"})


def test_most_random_keys_are_found_whatever_their_variable_is_called() -> None:
    keys = [secrets.token_urlsafe(32) for _ in range(200)]
    assert sum(bool(secret_texts({"WHATEVER": key})) for key in keys) > 190


def test_it_takes_a_user_and_a_host_out_of_addresses_and_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = redactor(monkeypatch, tmp_path, "ada")
    assert found.text("ada@gpu7: adam on gpu70") == "<user>@<host>: adam on gpu70"
    assert found.text("in /scratch/ada/run and ~ada/notes") == "in /scratch/<user>/run and ~<user>/notes"
    assert found.environment({"who": ["ada", 1], "where": {"host": "gpu7"}}) == {
        "who": ["<user>", 1],
        "where": {"host": "<host>"},
    }


@pytest.mark.parametrize("user", ["root", "user", "loss", "mean"])
def test_ordinary_words_stay_whatever_the_user_is_called(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str
) -> None:
    found = redactor(monkeypatch, tmp_path, user, host="train")
    text = "the root of the mean square is 1.5; user: hello; train/loss falls, train/user/loss too"
    assert found.text(text) == text
    assert found.names(["train/loss", "loss", "user/mean", "root"]) == ["train/loss", "loss", "user/mean", "root"]


def test_a_name_with_a_digit_or_a_mark_is_taken_out_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = redactor(monkeypatch, tmp_path, "ada.l", host="node-17")
    assert found.text("ada.l runs on node-17, node-170 idles") == "<user> runs on <host>, node-170 idles"


def test_a_knob_keeps_its_names_groups_and_choices(tmp_path: Path) -> None:
    found = Redactor(tmp_path / "data", APPLICATION, {"MY_TOKEN": "s3cr3t-value!"})
    spec = {"name": "s3cr3t-value! rate", "groups": {"user": 0.1}, "choices": [f"{tmp_path}/data/a"], "help": "at {0}"}
    stored = found.knob(spec | {"help": f"reads {tmp_path}/data/a"})
    assert stored == spec | {"help": "reads <data>/a"}


def test_it_replaces_what_no_database_takes(tmp_path: Path) -> None:
    found = Redactor(tmp_path, tmp_path / "app", {})
    assert found.text("a\0b \udce4") == "a\ufffdb ?"
    assert found.json({"loss": [float("nan"), 0.5]}) == {"loss": [None, 0.5]}
    assert found.knob({"name": "a\0b"}) == {"name": "a\ufffdb"}


def test_a_training_inherits_no_secret_of_the_portal(tmp_path: Path) -> None:
    names = (
        "SECRET_KEY", "SECRET_KEY_FALLBACKS", "SECRET_KEY_FILE", "DATABASE_URL", "DATABASE_URL_FILE", "REDIS_URL",
        "EMAIL_URL", "MAIL_FROM", "DATABASE_PASSWORD", "REDIS_PASSWORD", "REDIS_PASSWORD_FILE", "OIDC_CLIENT_ID",
        "OIDC_CLIENT_SECRET", "OIDC_CLIENT_SECRET_FILE",
    )  # fmt: skip
    secret = {f"STEERSMAN_{name}": "s3cr3t" for name in names}
    given = worker_environment(tmp_path, tmp_path, Path.cwd(), secret | {"STEERSMAN_PUSH_MS": "80", "HF_TOKEN": "x"})
    assert "s3cr3t" not in given.values()
    assert given["STEERSMAN_PUSH_MS"] == "80" and given["HF_TOKEN"] == "x"
