"""The first member of a backup, its manifest, and the names of the others. Imports only the standard library.

backup.json           the content of the archive, see `Manifest`
database.sqlite3      the snapshot of the database; database.pgdump on PostgreSQL
data/...              files of the data folder, by their paths in it
SHA256SUMS            the SHA-256 of every member before it, one per line, as `sha256sum` writes them
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, dataclass, field

FORMAT = 1
MANIFEST = "backup.json"
HASHES = "SHA256SUMS"
DATABASES = {"sqlite": "database.sqlite3", "postgresql": "database.pgdump"}
DATA = "data/"
SECRET_KEY = "secret_key"
RUNS = "runs"
LARGEST_MANIFEST_BYTES = 16 << 20
_HASH_LINE = re.compile(r"([0-9a-f]{64})  (.+)")


class ArchiveError(Exception):
    """A backup cannot be created, read or restored. The text says why, and what to do."""


@dataclass(frozen=True, slots=True)
class Manifest:
    """The description of a backup. `migrations` are the applied ones, as app.name; `made_at` is ISO 8601, UTC.

    `missing` lists checkpoints in rows that had no files before the backup, `elsewhere` the runs with files in the data
    folder of another host.
    """

    format: int
    engine: str
    migrations: list[str]
    made_at: str
    host: str
    runs: int
    missing: list[str] = field(default_factory=list)
    elsewhere: list[int] = field(default_factory=list)


def manifest_text(manifest: Manifest) -> bytes:
    return json.dumps(asdict(manifest), indent=1).encode()


def parse_manifest(text: bytes) -> Manifest:
    """Return the manifest of a backup. Raises `ArchiveError` if this version cannot read it."""
    try:
        fields = json.loads(text)
        if int(fields["format"]) != FORMAT:
            raise ArchiveError(
                f"The backup has format {int(fields['format'])}, but this version of Steersman reads format {FORMAT}: "
                "restore the backup with the version that made it."
            )
        if fields["engine"] not in DATABASES:
            raise ValueError("unknown engine")
        return Manifest(
            format=FORMAT,
            engine=fields["engine"],
            migrations=[str(name) for name in fields["migrations"]],
            made_at=str(fields["made_at"]),
            host=str(fields["host"]),
            runs=int(fields["runs"]),
            missing=[str(name) for name in fields["missing"]],
            elsewhere=[int(run) for run in fields["elsewhere"]],
        )
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ArchiveError(
            f"The {MANIFEST} of the backup cannot be read: give an archive that manage.py backup wrote."
        ) from error


def hashes_text(hashes: dict[str, str]) -> bytes:
    return "".join(f"{digest}  {name}\n" for name, digest in hashes.items()).encode()


def parse_hashes(text: bytes) -> dict[str, str]:
    """Return the SHA-256 of each member by name. Raises `ArchiveError`."""
    try:
        lines = [_HASH_LINE.fullmatch(line) for line in text.decode().splitlines()]
    except UnicodeDecodeError:
        lines = [None]
    if any(line is None for line in lines):
        raise ArchiveError(f"The list {HASHES} of the backup cannot be read: use another backup.")
    return {line[2]: line[1] for line in lines if line is not None}
