"""Check the Dockerfile without an engine: build, start and use every target. Needs root, buildah and the network.

usage: python -m tests.image_check [--only TARGET]

Creates substitutes for the base images once, from Debian's Python and the CPU build of torch. Prints one flat JSON
object as its last line and exits with 1 if something is wrong. If images cannot be built, it prints a sentence and
`"built": null`, and exits with 0.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import time
from collections.abc import Callable

from tests.image import buildah, serving, stand_in
from tests.support.stack import ROOT

CHECKS: dict[str, Callable[[str], dict[str, object]]] = {
    "portal": serving.check_portal,
    "lab": serving.check_lab,
    "slim": serving.check_slim,
}
# The check passes the package mirrors in a person's environment to the Dockerfile.
MIRRORS = ("APT_MIRROR", "PIP_INDEX_URL", "NPM_CONFIG_REGISTRY")
LOG = ROOT / "build" / "image-check.log"


def build_options() -> list[str]:
    """Return the options of a build on this machine."""
    arguments = [f"--build-arg={name}={os.environ[name]}" for name in MIRRORS if os.environ.get(name)]
    return [
        *stand_in.mounts(),
        *arguments,
        f"--build-arg=BASE={stand_in.with_torch()}",
        f"--build-arg=SLIM_BASE={stand_in.BARE}",
    ]


def check(target: str) -> dict[str, object]:
    """Build a target and use it. Raises `Failed` and `TimeoutError`."""
    image = f"localhost/steersman-check:{target}"
    began = time.monotonic()
    with LOG.open("a") as log:
        buildah.build(target, image, build_options(), log)
    built = time.monotonic() - began
    lines = buildah.run_lines(target, (ROOT / "Dockerfile").read_text())
    print(f"{target}: built in {built:.0f} s, RUN lines of {', '.join(lines)}", file=sys.stderr)
    found = CHECKS[target](image)
    print(f"{target}: {found}", file=sys.stderr)
    return {f"{target}_built_s": round(built), **found}


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=CHECKS, help="one of the targets")
    arguments = parser.parse_args()
    why = buildah.missing()
    if why:
        print(f"Images cannot be built here: {why} Nothing was checked.", file=sys.stderr)
        print(json.dumps({"built": None}))
        return 0
    LOG.parent.mkdir(exist_ok=True)
    LOG.write_text("")
    result: dict[str, object] = {"built": [], "date": time.strftime("%Y-%m-%d")}
    faults = []
    for target in [arguments.only] if arguments.only else CHECKS:
        try:
            result |= check(target)
        except (buildah.Failed, TimeoutError) as error:
            faults.append(f"{target}: {error}")
            print(f"wrong: {faults[-1]}", file=sys.stderr)
    result |= {"built": [name for name in CHECKS if f"{name}_built_s" in result], "wrong": len(faults)}
    print(json.dumps(result))
    return int(bool(faults))


if __name__ == "__main__":
    sys.exit(main())
