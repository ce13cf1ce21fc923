"""Build images without an engine, by `buildah` with separate storage under build/."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path
from typing import TextIO

from tests.support.stack import ROOT

STORAGE = ROOT / "build" / "image-check"
# Commands of a build run in a chroot, which works within a container too.
ISOLATION = "chroot"
BUILD_TIMEOUT_S = 1800
# Required programs, and the Debian packages that contain them.
NEEDED = {"buildah": "buildah", "debootstrap": "debootstrap", "ssh": "openssh-client", "ssh-keygen": "openssh-client"}


class CannotCheck(Exception):
    """Images cannot be built on this machine; the text says why."""


class Failed(Exception):
    """A command failed; the text is its last output."""


def missing() -> str:
    """Return why images cannot be built here, as a sentence, or an empty string."""
    if os.geteuid() != 0:
        return "buildah without an engine needs root: run `sudo make image-check`."
    needed = {
        "buildah": "buildah",
        "debootstrap": "debootstrap",
        "ssh": "openssh-client",
        "ssh-keygen": "openssh-client",
    }
    packages = sorted({package for program, package in needed.items() if shutil.which(program) is None})
    if packages:
        return f"{', '.join(packages)} must be installed: apt-get install -y {' '.join(packages)}"
    return ""


@cache
def driver() -> str:
    """Return the storage driver: `vfs` copies each layer into the next, and works where overlays cannot be mounted."""
    if given := os.environ.get("STORAGE_DRIVER"):
        return given
    STORAGE.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STORAGE) as folder:
        parts = [Path(folder) / name for name in ("lower", "upper", "work", "merged")]
        for part in parts:
            part.mkdir()
        options = "lowerdir={},upperdir={},workdir={}".format(*parts)
        mount = ["mount", "-t", "overlay", "overlay", "-o", options, str(parts[-1])]
        if subprocess.run(mount, capture_output=True).returncode:
            return "vfs"
        subprocess.run(["umount", str(parts[-1])], check=True)
        return "overlay"


def environment() -> dict[str, str]:
    """Return the environment of buildah."""
    return os.environ | {
        "STORAGE_DRIVER": driver(),
        "BUILDAH_ISOLATION": os.environ.get("BUILDAH_ISOLATION", ISOLATION),
    }


def line(*arguments: str) -> list[str]:
    """Return the command line of buildah with `arguments`."""
    kept = STORAGE / driver()
    return ["buildah", "--root", str(kept / "storage"), "--runroot", str(kept / "running"), *arguments]


def call(*arguments: str, timeout_s: float = BUILD_TIMEOUT_S) -> str:
    """Return the output of buildah. Raises `Failed`."""
    done = subprocess.run(line(*arguments), env=environment(), capture_output=True, text=True, timeout=timeout_s)
    if done.returncode:
        raise Failed(f"buildah {' '.join(arguments)}: {done.stderr.strip()[-2000:]}")
    return done.stdout.strip()


def exists(image: str) -> bool:
    """Return whether the image exists."""
    done = subprocess.run(line("inspect", "--type", "image", image), env=environment(), capture_output=True)
    return done.returncode == 0


def size_mb(image: str) -> int:
    """Return the size of an image with all its layers, in 10⁶ bytes."""
    found = {name: each["size"] for each in json.loads(call("images", "--json")) for name in each["names"] or []}
    text = next(size for name, size in found.items() if name in (image, f"{image}:latest"))
    number, unit = text.split()
    return round(float(number) * {"KB": 0.001, "MB": 1, "GB": 1000}[unit])


def configuration(image: str) -> dict[str, object]:
    """Return the configuration of an image: Entrypoint, Cmd, User, Env and more."""
    found: dict[str, object] = json.loads(call("inspect", "--type", "image", image))["OCIv1"]["config"]
    return found


def run_lines(target: str, dockerfile: str) -> list[str]:
    """Return the name of each stage that a target is built on, with the number of its RUN lines, as in `build 2`."""
    stages = {}
    for text in re.split(r"^FROM ", dockerfile, flags=re.MULTILINE)[1:]:
        name = text.split(" AS ")[1].split()[0]
        copied = re.findall(r"^COPY --from=(\S+)", text, re.MULTILINE)
        stages[name] = ([text.split()[0], *copied], len(re.findall(r"^RUN ", text, re.MULTILINE)))
    needed, waiting = [], [target]
    while waiting:
        name = waiting.pop()
        if name in stages and name not in needed:
            needed.append(name)
            waiting += stages[name][0]
    return [f"{name} {stages[name][1]}" for name in stages if name in needed]


def build(target: str, image: str, options: list[str], log: TextIO) -> None:
    """Build a target of the Dockerfile. Raises `Failed` with the end of the output."""
    command = line(
        "build", "--layers", "--format=docker", "--pull-never", "--target", target, "--tag", image, *options, str(ROOT)
    )
    log.flush()
    place = log.tell()
    done = subprocess.run(command, env=environment(), stdout=log, stderr=subprocess.STDOUT, timeout=BUILD_TIMEOUT_S)
    if done.returncode:
        with Path(log.name).open() as said:
            said.seek(place)
            raise Failed(f"the target {target} cannot be built:\n{said.read()[-4000:]}")
