"""Build the site of the documents with Sphinx, in build/documents: `make docs`.

Sphinx has a separate environment, so that its requirements do not affect the packages of trainings. A warning, such as
one for a broken link, ends the build with exit code 1.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

from tool_environment import NotInstalled, make_environment

ROOT = Path(__file__).resolve().parents[1]
SITE = ROOT / "docs" / "site"
REQUIREMENTS = SITE / "requirements.txt"
BUILD = ROOT / "build" / "documents"
ENVIRONMENT = BUILD / "environment"


def copy_documents() -> Path:
    """Copy the documents, including those of the root folder, to a separate folder, and return it.

    Sphinx searches for documents below one folder. The root folder also holds packages and builds, which Sphinx would
    search.
    """
    source = BUILD / "source"
    shutil.rmtree(source, ignore_errors=True)
    shutil.copytree(ROOT / "docs", source / "docs", ignore=shutil.ignore_patterns("site"))
    for path in ROOT.glob("*.md"):
        shutil.copy(path, source)
    return source


def build_site(source: Path) -> int:
    """Build every page anew, and return the exit code of Sphinx."""
    output = BUILD / "site"
    shutil.rmtree(output, ignore_errors=True)
    options = [
        "--fail-on-warning",
        "--keep-going",
        "--quiet",
        "--conf-dir",
        str(SITE),
        "--doctree-dir",
        str(BUILD / "trees"),
    ]
    command = [str(ENVIRONMENT / "bin" / "python"), "-m", "sphinx", "--fresh-env", *options, str(source), str(output)]
    code = subprocess.run(command).returncode
    if not code:
        print(f"The documents: {(output / 'index.html').as_uri()}")
    return code


def main() -> int:
    try:
        make_environment(ENVIRONMENT, REQUIREMENTS, "make docs")
    except NotInstalled as error:
        print(error, file=sys.stderr)
        return 1
    return build_site(copy_documents())


if __name__ == "__main__":
    sys.exit(main())
