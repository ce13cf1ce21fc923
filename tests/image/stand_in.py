"""Base images for the check: Debian with its Python, and the same with the CPU build of torch.

If this machine gets packages from unusual places (certificates, indexes, proxies), these images do so too, so that the
Dockerfile needs nothing specific to this machine.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib.metadata import version
from pathlib import Path

from tests.image import buildah
from tests.support.stack import ROOT

SUITE, DEBIAN = "bookworm", "http://deb.debian.org/debian"
PACKAGES = "python3,python3-venv,python3-pip,python-is-python3,ca-certificates"
BARE = "localhost/steersman-check-debian"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"
CERTIFICATES = Path("etc/ssl/certs/ca-certificates.crt")
SEEN_BY_ALL = Path("usr/local/lib/python3.11/dist-packages")
# The settings that say where packages come from; other settings of a person do not matter to the image.
PIP_KEYS = {"index-url", "extra-index-url", "find-links", "cert", "trusted-host", "proxy", "timeout", "default-timeout"}


def bare() -> str:
    """Return the image with Debian and its Python; create it if it does not exist."""
    if not buildah.exists(BARE):
        container = buildah.call("from", "scratch")
        root = Path(buildah.call("mount", container))
        _call(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", SUITE, str(root), DEBIAN])
        _configure(root)
        _commit(container, BARE)
    return BARE


def with_torch() -> str:
    """Return the image with torch, for every Python in it; create it if it does not exist."""
    wanted = _torch()
    image = f"localhost/steersman-check-torch:{wanted.replace('+', '-')}"
    if not buildah.exists(image):
        container = buildah.call("from", "--pull-never", bare())
        folder = Path(buildah.call("mount", container)) / SEEN_BY_ALL
        options = ["--target", str(folder), "--python-version", "3.11", "--only-binary", ":all:", "--no-compile"]
        if not version("torch").endswith("+cpu"):
            options += ["--extra-index-url", CPU_INDEX]
        constraint = ["-c", str(ROOT / "requirements.lock"), f"torch=={wanted}"]
        _call([sys.executable, "-m", "pip", "install", "--quiet", *options, *constraint])
        _commit(container, image)
    return image


def mounts() -> list[str]:
    """Return the options that mount pip's local package folders into a build."""
    places = [word.removeprefix("file://") for value in _pip_settings().values() for word in value.split()]
    folders = sorted({place for place in places if place.startswith("/") and Path(place).is_dir()})
    # The links in such a folder lead to files beside it.
    tops = sorted({"/".join(folder.split("/")[:3]) for folder in folders})
    return [f"--volume={top}:{top}:ro" for top in tops]


def _torch() -> str:
    return f"{version('torch').partition('+')[0]}+cpu"


def _pip_settings() -> dict[str, str]:
    listed = subprocess.run([sys.executable, "-m", "pip", "config", "list"], capture_output=True, text=True, check=True)
    found: dict[str, str] = {}
    for text in listed.stdout.splitlines():
        name, _, value = text.partition("=")
        key = name.rpartition(".")[2]
        if key in PIP_KEYS:
            found[key] = value.strip("'\"").replace("\\n", " ")
    return found


def _configure(root: Path) -> None:
    host = Path("/") / CERTIFICATES
    if host.exists():
        shutil.copyfile(host, root / CERTIFICATES)
    lines = [f"{key} = {value}" for key, value in _pip_settings().items()]
    (root / "etc/pip.conf").write_text("\n".join(["[global]", *lines, ""]))
    told = subprocess.run(["apt-config", "dump", "Acquire"], capture_output=True, text=True)
    proxies = [each for each in told.stdout.splitlines() if "proxy" in each.partition(" ")[0].lower()]
    (root / "etc/apt/apt.conf.d/90proxy").write_text("\n".join([*proxies, ""]))
    # As in the images of Debian: apt-get's caches are not part of an image.
    (root / "etc/apt/apt.conf.d/docker-clean").write_text('Dir::Cache::pkgcache "";\nDir::Cache::srcpkgcache "";\n')
    for kept in [*root.glob("var/cache/apt/*.bin"), *root.glob("var/cache/apt/archives/*.deb")]:
        kept.unlink()
    for marker in root.glob("usr/lib/python3.*/EXTERNALLY-MANAGED"):
        marker.unlink()


def _commit(container: str, image: str) -> None:
    variables = {"NODE_EXTRA_CA_CERTS": f"/{CERTIFICATES}", "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin"}
    buildah.call("config", *(f"--env={name}={value}" for name, value in variables.items()), container)
    buildah.call("umount", container)
    buildah.call("commit", "--rm", container, image)


def _call(command: list[str]) -> None:
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=1200)
    if done.returncode:
        raise buildah.Failed(f"{' '.join(command)}: {done.stdout[-2000:]}")
