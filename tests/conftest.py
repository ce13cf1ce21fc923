"""Set up the test run before Django loads: a separate data folder and database, away from the developer's.

With STEERSMAN_TEST_POSTGRES (see scripts/postgres.py) the tests of this process and every stack use that server.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from django.conf import settings
from django.utils import translation

_KEPT = {"STEERSMAN_TEST_OUTPUT", "STEERSMAN_TEST_POSTGRES"}
_DATA = Path(tempfile.mkdtemp(prefix="steersman-tests-"))
for _name in [name for name in os.environ if name.startswith("STEERSMAN_") and name not in _KEPT]:
    del os.environ[_name]
os.environ |= {"STEERSMAN_DATA": str(_DATA), "DJANGO_SETTINGS_MODULE": "monitor_site.settings"}
if "STEERSMAN_TEST_POSTGRES" in os.environ:
    from tests.support.postgres import address_of

    os.environ["STEERSMAN_DATABASE_URL"] = address_of(f"steersman_{os.getpid()}")
# Processes started here do not load PyTorch's compiler; this process, which xdist may have started, may.
_UNCOMPILED = str(Path(__file__).parent / "support" / "uncompiled")
if _UNCOMPILED not in sys.path:
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [_UNCOMPILED, os.environ.get("PYTHONPATH")]))
sys.meta_path[:] = [finder for finder in sys.meta_path if type(finder).__module__ != "sitecustomize"]
assert settings.DATABASES
# Slow hashing protects real accounts from guesses; here it would take half the time of the tests.
settings.PASSWORD_HASHERS = ["django.contrib.auth.hashers.MD5PasswordHasher"]
# Slow machines must not fail a test: neither examples nor their generation have a time limit.
hypothesis.settings.register_profile(
    "patient", hypothesis.settings(), deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("patient")
# Each process started here uses the separate database of its stack.
os.environ.pop("STEERSMAN_DATABASE_URL", None)

from monitor_site.serving.embedded_server import EmbeddedServer  # noqa: E402  after the environment is set
from tests.support.stack import Stack, seed_stack, started_stack  # noqa: E402

Stack.forks = True

# The longest tests start first: otherwise one process would run them at the end while the others wait.
LONGEST_FIRST = (
    "test_train.py", "test_several_ranks.py", "test_docker.py", "test_resume.py", "test_serve.py", "test_readme.py",
    "test_restarts.py", "test_doctor.py", "test_watch.py", "test_slots.py", "test_worker.py", "test_demo.py",
    "test_setup.py", "test_plain_django.py", "test_replay.py", "test_out_of_memory.py", "test_create_run.py",
)  # fmt: skip


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {name: place for place, name in enumerate(LONGEST_FIRST)}
    items.sort(key=lambda item: places.get(item.path.name, len(places)))


def pytest_unconfigure() -> None:
    shutil.rmtree(_DATA, ignore_errors=True)


@pytest.fixture(autouse=True)
def language_of_each_test() -> Iterator[None]:
    """A request leaves its language active in the thread; deactivate it, so that each test starts with the default."""
    translation.deactivate()
    yield
    translation.deactivate()


@pytest.fixture(scope="session")
def django_db_keepdb() -> bool:
    """On PostgreSQL the database is removed with its server: threads of the portal may still hold connections to it."""
    return "STEERSMAN_TEST_POSTGRES" in os.environ


@pytest.fixture(scope="session")
def stack() -> Iterator[Stack]:
    """A migrated real stack with embedded server and portal; create a separate project in it for each test."""
    with started_stack() as running:
        yield running


@pytest.fixture(scope="session")
def layer_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EmbeddedServer]:
    """An embedded server for the channel layer of this process."""
    server = EmbeddedServer(tmp_path_factory.mktemp("layer"))
    server.start()
    yield server
    server.stop()


@pytest.fixture
def layer(layer_server: EmbeddedServer) -> Iterator[None]:
    """A real channel layer for a portal inside this process."""
    from channels.layers import channel_layers
    from django.test import override_settings

    from runs.recording import announcer

    layers = {
        "default": {
            "BACKEND": "channels_redis.pubsub.RedisPubSubChannelLayer",
            "CONFIG": {"hosts": [layer_server.url]},
        }
    }
    with override_settings(CHANNEL_LAYERS=layers):
        channel_layers.backends.clear()
        # What an earlier test did to its layer was logged there.
        announcer.layer_state = announcer.LayerState()
        yield


@pytest.fixture(scope="session")
def offline_stack() -> Iterator[Stack]:
    """A migrated data folder with no server at all: trainings run without portal and Redis."""
    with Stack() as bare:
        seed_stack(bare)
        yield bare
