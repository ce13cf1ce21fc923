"""Build the client package and collect the wheels that its extra `agent` needs: `make client`.

The packages are then in build/client/packages, which the portal serves at /client/simple/. `--output` names another
folder, whose packages are replaced. `--python` and `--platform` limit the wheels that are collected.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from tool_environment import NotInstalled, make_environment

ROOT = Path(__file__).resolve().parents[1]
BUILD = ROOT / "build" / "client"
PACKAGES = BUILD / "packages"
EXTRA = "agent"
PYTHONS = ("3.10", "3.11", "3.12", "3.13", "3.14")
# pip's platform tags for each platform; a wheel with any of them will do.
PLATFORMS = {
    "linux-x86_64": ("manylinux2014_x86_64", "manylinux_2_28_x86_64"),
    "linux-aarch64": ("manylinux2014_aarch64", "manylinux_2_28_aarch64"),
    "macos-arm64": ("macosx_11_0_arm64",),
}
# The newest versions that work with an older Python than the portal's.
OF_OLDER_PYTHONS = {"3.10": {"websockets": "16.1.1"}}
KINDS = ("*.whl", "*.tar.gz")


class Failed(Exception):
    """A step failed; the text says which one, and what to do."""


def build(python: Path, folder: Path) -> Path:
    """Build an sdist, and a wheel from it, into `folder`; return the wheel."""
    with tempfile.TemporaryDirectory() as scratch:
        source = Path(scratch) / "steersman"
        shutil.copytree(ROOT / "steersman", source, ignore=shutil.ignore_patterns("__pycache__"))
        # The package must contain the licence.
        shutil.copy(ROOT / "LICENSE", source)
        options = ["--no-isolation", "--outdir", str(folder), str(source)]
        _run([str(python), "-m", "build", *options], "the package could not be built")
    return next(folder.glob("steersman-*.whl"))


def collect(python: Path, wheel: Path, folder: Path, pythons: list[str], platforms: list[str]) -> None:
    """Download the wheels that the extra of `wheel` needs, in the versions of requirements.lock."""
    for platform in platforms:
        for version in pythons:
            command = [str(python), "-m", "pip", "--disable-pip-version-check", "download", "--quiet"]
            command += ["--only-binary", ":all:", "--python-version", version, "--implementation", "cp"]
            for tag in PLATFORMS[platform]:
                command += ["--platform", tag]
            constraints = folder / f"constraints-{version}"
            constraints.write_text(pins_for(version))
            command += ["--constraint", str(constraints), "--dest", str(folder), f"{wheel}[{EXTRA}]"]
            _run(command, f"the wheels of steersman[{EXTRA}] for Python {version} on {platform} could not be collected")


def pins_for(version: str) -> str:
    """Return the versions of requirements.lock, with those that a version of Python needs instead."""
    lines = (ROOT / "requirements.lock").read_text().splitlines()
    pins = dict(line.split("==") for line in lines if "==" in line)
    return "\n".join(f"{name}=={pin}" for name, pin in (pins | OF_OLDER_PYTHONS.get(version, {})).items())


def publish(folder: Path, output: Path) -> list[str]:
    """Move the packages of `folder` to `output`, remove others there, and return their names."""
    output.mkdir(parents=True, exist_ok=True)
    found = sorted(path for kind in KINDS for path in folder.glob(kind))
    for path in found:
        # Copy to a file beside the target first, because the target may be on another file system and readers must get
        # a complete file.
        arriving = output / f".{path.name}.new"
        shutil.copyfile(path, arriving)
        arriving.replace(output / path.name)
    names = {path.name for path in found}
    for kind in KINDS:
        for path in output.glob(kind):
            if path.name not in names:
                path.unlink()
    return sorted(names)


def _run(command: list[str], problem: str) -> None:
    done = subprocess.run(command, cwd=BUILD, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    if done.returncode:
        raise Failed(f"{problem}:\n{done.stdout.strip()[-3000:]}")


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--output", type=Path, default=PACKAGES, help="folder of the packages")
    parser.add_argument("--python", action="append", choices=PYTHONS, help="only for this Python; may be repeated")
    parser.add_argument("--platform", action="append", choices=PLATFORMS, help="only for this platform")
    chosen = parser.parse_args()
    BUILD.mkdir(parents=True, exist_ok=True)
    try:
        python = make_environment(BUILD / "environment", ROOT / "scripts" / "client_requirements.txt", "make client")
        with tempfile.TemporaryDirectory(dir=BUILD) as scratch:
            folder = Path(scratch)
            wheel = build(python, folder)
            collect(python, wheel, folder, chosen.python or list(PYTHONS), chosen.platform or list(PLATFORMS))
            names = publish(folder, chosen.output.resolve())
    except (Failed, NotInstalled) as error:
        print(error, file=sys.stderr)
        return 1
    print("\n".join([f"{len(names)} packages are in {chosen.output}:", *names]))
    return 0


if __name__ == "__main__":
    sys.exit(main())
