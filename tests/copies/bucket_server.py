"""A server with the interface of S3 on this machine: moto, which keeps its objects in the memory of the tests."""

from __future__ import annotations

import importlib.util
from typing import Any

import pytest

from tests.support.hosts.ports import free_port

PACKAGES = ("storages", "boto3", "moto", "flask", "flask_cors")
needs_bucket = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, PACKAGES)),
    reason="needs the packages of requirements-s3.txt, and moto[s3], flask and flask-cors",
)
NAME = "checkpoints"
PREFIX = "steersman/lab"
KEYS = {"access_key": "a-key", "secret_key": "a-secret-of-the-bucket"}


class BucketServer:
    """A bucket. While the server is stopped, connections to it are refused; it keeps its objects."""

    def __init__(self) -> None:
        self._port = free_port()
        self._server: Any = None

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self._port}"

    @property
    def variables(self) -> dict[str, str]:
        """The environment variables of a portal that uses the bucket."""
        return {
            "STEERSMAN_S3_BUCKET": NAME,
            "STEERSMAN_S3_ENDPOINT": self.address,
            "STEERSMAN_S3_REGION": "eu-central-1",
            "STEERSMAN_S3_ACCESS_KEY": KEYS["access_key"],
            "STEERSMAN_S3_SECRET_KEY": KEYS["secret_key"],
            "STEERSMAN_S3_PREFIX": PREFIX,
        }

    def start(self) -> None:
        from moto.server import ThreadedMotoServer

        self._server = ThreadedMotoServer(ip_address="127.0.0.1", port=self._port, verbose=False)
        self._server.start()

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None

    def make_bucket(self) -> None:
        """Make the bucket. All servers of one process of tests share their objects."""
        client = self._client()
        if not client.list_buckets()["Buckets"]:
            client.create_bucket(Bucket=NAME, CreateBucketConfiguration={"LocationConstraint": "eu-central-1"})

    def objects(self) -> dict[str, bytes]:
        """Return the content of all objects by their names."""
        client = self._client()
        found = client.list_objects_v2(Bucket=NAME).get("Contents", [])
        return {each["Key"]: client.get_object(Bucket=NAME, Key=each["Key"])["Body"].read() for each in found}

    def _client(self) -> Any:
        import boto3

        return boto3.client(
            "s3", endpoint_url=self.address, region_name="eu-central-1",
            aws_access_key_id=KEYS["access_key"], aws_secret_access_key=KEYS["secret_key"],
        )  # fmt: skip
