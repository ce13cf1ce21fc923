"""Settings of a bucket that stores the pushed checkpoints: S3, or a server with the interface of S3."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured

OPTIONS = ("ENDPOINT", "REGION", "ACCESS_KEY", "SECRET_KEY", "PREFIX", "ADDRESSING")
ADDRESSING = ("path", "virtual")
LIBRARIES = ("storages", "boto3")


@dataclass(frozen=True, slots=True)
class Bucket:
    """A bucket. `endpoint` is empty for Amazon's own S3; keys are empty if boto3 finds them as it usually does."""

    name: str
    endpoint: str
    region: str
    access_key: str
    secret_key: str = field(repr=False)
    prefix: str
    addressing: str


def bucket(env: environ.Env) -> Bucket | None:
    """Return the bucket in STEERSMAN_S3_…, None if there is none. Raises `ImproperlyConfigured`."""
    name = env("STEERSMAN_S3_BUCKET", default="").strip()
    given = {option: env(f"STEERSMAN_S3_{option}", default="").strip() for option in OPTIONS}
    if not name:
        if any(given.values()):
            names = ", ".join(f"STEERSMAN_S3_{option}" for option, value in given.items() if value)
            raise ImproperlyConfigured(f"STEERSMAN_S3_BUCKET is empty, but {names} is set: set the bucket's name too")
        return None
    endpoint = given["ENDPOINT"].rstrip("/")
    if endpoint and (urlsplit(endpoint).scheme not in ("http", "https") or not urlsplit(endpoint).hostname):
        raise ImproperlyConfigured(
            f"STEERSMAN_S3_ENDPOINT is {endpoint!r}: give the address of the server, such as https://minio.example.org"
        )
    if bool(given["ACCESS_KEY"]) != bool(given["SECRET_KEY"]):
        raise ImproperlyConfigured("set both STEERSMAN_S3_ACCESS_KEY and STEERSMAN_S3_SECRET_KEY, or neither of them")
    # Amazon's own S3 has a host name per bucket; few other servers have.
    addressing = given["ADDRESSING"] or ("path" if endpoint else "virtual")
    if addressing not in ADDRESSING:
        raise ImproperlyConfigured(f"STEERSMAN_S3_ADDRESSING is {addressing!r}: give {' or '.join(ADDRESSING)}")
    if not all(map(importlib.util.find_spec, LIBRARIES)):
        raise ImproperlyConfigured(
            "STEERSMAN_S3_BUCKET needs django-storages and boto3, which are not installed: pip install -r "
            "requirements-s3.txt"
        )
    return Bucket(
        name=name,
        endpoint=endpoint,
        region=given["REGION"],
        access_key=given["ACCESS_KEY"],
        secret_key=given["SECRET_KEY"],
        prefix=given["PREFIX"].strip("/"),
        addressing=addressing,
    )


def checkpoint_storage(chosen: Bucket | None) -> dict[str, Any]:
    """Return the entry of Django's STORAGES for the pushed checkpoints: the bucket, or the data folder."""
    if chosen is None:
        return {"BACKEND": "runs.copies.folder.CopyFolder"}
    options = {
        "bucket_name": chosen.name,
        "location": chosen.prefix,
        "addressing_style": chosen.addressing,
        "checks_sums": not chosen.endpoint,
        "endpoint_url": chosen.endpoint,
        "region_name": chosen.region,
        "access_key": chosen.access_key,
        "secret_key": chosen.secret_key,
    }
    return {
        "BACKEND": "runs.copies.bucket.CopyBucket",
        "OPTIONS": {name: value for name, value in options.items() if value != ""},
    }
