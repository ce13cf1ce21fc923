"""The packages of this project, the imports that each may have, and the imports that its files have.

`python -m tests.layout` prints the packages and their arrows, the picture in docs/architecture.md. It exits with 1 if a
file imports what its package may not, if arrows form a circle, or if a package has more than `MOST_FILES` files.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MOST_FILES = 15
STANDARD = set(sys.stdlib_module_names)
TEST_FOLDERS = ("tests", "bench")
MIGRATIONS = "runs.migrations"
# Files that each package has once at most.
OF_PACKAGES = ("__init__.py", "__main__.py")


@dataclass(frozen=True, slots=True)
class Rule:
    """What the files of a package may import directly, and what they must not import through others.

    `packages`: packages of this project; "x.*" is x and everything in it. `libraries`: packages of others. `never`:
    libraries that no chain of imports may lead to, imports inside functions included.
    """

    packages: tuple[str, ...] = ()
    libraries: frozenset[str] = frozenset()
    never: frozenset[str] = frozenset()


def rule(packages: str = "", libraries: str = "", never: str = "") -> Rule:
    return Rule(tuple(packages.split()), frozenset(libraries.split()), frozenset(never.split()))


CLIENT = "torch django psutil pynvml msgspec numpy"
AGENT = "torch django numpy channels"
WEB = "torch psutil pynvml twisted"
RECORD = "runs.models runs.protocol runs.recording"
UI = (
    f"{RECORD} runs.access runs.branching runs.curation runs.markdown runs.queueing runs.replaying runs.series"
    " runs.commands runs.live steersman steersman.files"
)
ADMIN_LIBRARIES = "django channels unfold django_stubs_ext axes allauth"

# From the bottom to the top: no package imports one that is below it in this table.
RULES = {
    "steersman.values": rule(never=CLIENT),
    "steersman.records": rule("steersman.values", never=CLIENT),
    "steersman.files": rule("steersman.records", never=CLIENT),
    "steersman.ranks": rule("steersman.files", never=CLIENT),
    "steersman.optimizers": rule(never=CLIENT),
    "steersman.checkpoints": rule("steersman.files steersman.records steersman.values", never=CLIENT),
    "steersman.layers": rule("steersman.values", never=CLIENT),
    "steersman.surroundings": rule(never=CLIENT),
    "steersman.starting": rule("steersman.files steersman.records steersman.values", never=CLIENT),
    "steersman": rule(
        "steersman.checkpoints steersman.files steersman.layers steersman.optimizers steersman.ranks steersman.records "
        "steersman.starting steersman.surroundings steersman.values",
        never=CLIENT,
    ),
    "steersman.portal": rule("steersman steersman.files steersman.records", never=CLIENT),
    "steersman.messages": rule("steersman steersman.records steersman.values", never=CLIENT),
    "steersman.wire": rule("steersman.files steersman.messages steersman.records", "msgspec", AGENT),
    "steersman.agent": rule("steersman steersman.files", "psutil", AGENT),
    "steersman.agent.machine": rule(
        "steersman steersman.files steersman.messages steersman.values", "psutil pynvml", AGENT
    ),
    "steersman.agent.journals": rule("steersman.files steersman.messages steersman.records", never=AGENT),
    "steersman.agent.supervise": rule(
        "steersman steersman.files steersman.messages steersman.records", "psutil", AGENT
    ),
    "steersman.agent.reporting": rule(
        "steersman.agent.journals steersman.agent.machine steersman.agent.supervise steersman.files "
        "steersman.messages steersman.records steersman.values",
        never=AGENT,
    ),
    "steersman.agent.launch": rule("steersman.*", "psutil", AGENT),
    "steersman.agent.host_side": rule("steersman.*", "msgspec psutil", AGENT),
    "steersman.agent.launchers": rule("steersman.*", "psutil", AGENT),
    "steersman.agent.origin": rule("steersman.*", never=AGENT),
    "steersman.agent.links": rule("steersman steersman.portal steersman.records steersman.wire", "websockets", AGENT),
    "steersman.agent.remote": rule("steersman.*", "psutil websockets", AGENT),
    "steersman.agent.on_request": rule("steersman.*", "msgspec psutil", AGENT),
    "steersman.command_line": rule("steersman.*", never=AGENT),
    "steersman.__main__": rule("steersman.command_line", never=AGENT),
    "runs.protocol": rule("steersman", "msgspec", f"{WEB} django"),
    "runs.alerts.layers": rule(never=f"{WEB} django msgspec numpy"),
    "runs.alerts.detectors": rule("runs.alerts.layers runs.protocol", never=f"{WEB} django msgspec numpy"),
    "runs.alerts": rule("runs.alerts.detectors runs.protocol steersman", never=f"{WEB} django"),
    "runs.models": rule("runs.protocol steersman", "django", WEB),
    "runs.statements": rule(libraries="django", never=WEB),
    "runs.alerts.wording": rule("runs.models runs.protocol runs.alerts steersman", "django", WEB),
    "runs.copies": rule("steersman.files", "boto3 botocore django storages", WEB),
    "runs.recording": rule(
        "runs.alerts runs.copies runs.models runs.protocol runs.statements steersman steersman.messages",
        "django channels",
        WEB,
    ),
    "runs.outage": rule("runs.recording steersman.files", "asgiref django", WEB),
    "runs.series.packing": rule("", "numpy", f"{WEB} django msgspec"),
    "runs.series": rule(
        "runs.models runs.protocol runs.series.packing runs.statements", "django channels msgspec numpy", WEB
    ),
    "runs.pruning": rule(f"{RECORD} runs.series.* steersman steersman.files", "django numpy", WEB),
    "runs.selection": rule(RECORD, "django", WEB),
    "runs.access": rule(RECORD, "django msgspec cryptography axes", WEB),
    "runs.sign_in": rule(
        f"{RECORD} runs.access", "django allauth asgiref axes cryptography django_auth_ldap fido2 ldap", WEB
    ),
    "runs.audit": rule(f"{RECORD} runs.access runs.sign_in runs.series", "django allauth", WEB),
    "runs.queueing": rule(f"{RECORD} runs.access", "django", WEB),
    "runs.commands": rule(f"{RECORD} runs.access steersman", "django msgspec", WEB),
    "runs.markdown": rule(libraries="django markdown_it nh3", never=WEB),
    "runs.curation": rule(
        f"{RECORD} runs.access runs.audit runs.commands runs.copies runs.pruning runs.series steersman steersman.files",
        "django",
        WEB,
    ),
    "runs.recording.record_side": rule(
        f"{RECORD} runs.commands runs.series runs.statements steersman steersman.messages steersman.records",
        "django msgspec",
        WEB,
    ),
    "runs.branching": rule(f"{RECORD} runs.recording.record_side runs.access steersman steersman.files", "django", WEB),
    "runs.replaying": rule(
        f"{RECORD} runs.access runs.branching runs.commands runs.recording.record_side steersman steersman.files"
        " steersman.surroundings",
        "django msgspec",
        WEB,
    ),
    "runs.metrics": rule(f"{RECORD} runs.access runs.outage", "django channels msgspec prometheus_client", WEB),
    "runs.live.presence": rule("runs.protocol runs.access", "django", WEB),
    "runs.live.layer": rule("runs.recording", "channels", WEB),
    "runs.live": rule(
        f"{RECORD} runs.access runs.commands runs.live.layer runs.live.presence runs.metrics runs.outage"
        " steersman.files",
        "django channels msgspec autobahn",
        "torch psutil pynvml",
    ),
    "runs.alerts.rulebook": rule(
        f"{RECORD} runs.access runs.series.* runs.commands runs.alerts runs.alerts.detectors "
        "runs.recording.record_side steersman",
        "django numpy",
        WEB,
    ),
    "runs.launches": rule(f"{RECORD} runs.access runs.branching", "django", WEB),
    "runs.agents": rule(f"{RECORD} runs.access steersman steersman.messages steersman.records", "django", WEB),
    "runs.api.agents": rule("runs.models runs.recording steersman.messages", "ninja", WEB),
    "runs.api.launching": rule("runs.branching runs.launches runs.models runs.recording", "ninja", WEB),
    "runs.api.pushing": rule("runs.access runs.copies runs.models runs.recording steersman.files", "django", WEB),
    "runs.api.charting": rule("runs.models runs.series", "django ninja pydantic", WEB),
    "runs.api.branching": rule("runs.access runs.branching runs.models runs.protocol", "django ninja pydantic", WEB),
    "runs.api.listing": rule(f"{RECORD} runs.access runs.selection", "django ninja pydantic", WEB),
    "runs.api.schemas": rule(f"{RECORD} runs.api.branching runs.curation steersman", "ninja", WEB),
    "runs.api": rule(
        f"{UI} runs.agents runs.api.agents runs.api.branching runs.api.charting runs.api.launching runs.api.listing "
        "runs.api.pushing runs.api.schemas runs.copies runs.alerts.rulebook runs.launches runs.outage runs.selection "
        "runs.series.packing steersman.messages",
        "django msgspec ninja pydantic",
        WEB,
    ),
    "runs.alerts.sending": rule(
        f"{RECORD} runs.access runs.series runs.alerts runs.alerts.detectors runs.alerts.rulebook runs.alerts.wording "
        "steersman",
        "django cryptography apprise matplotlib requests",
        WEB,
    ),
    "runs.client_packages": rule(libraries="django msgspec packaging", never=WEB),
    "runs.templatetags": rule(f"{RECORD} runs.access steersman", "django", WEB),
    "runs.portal.alerting": rule(
        f"{UI} runs.alerts runs.alerts.detectors runs.alerts.rulebook runs.alerts.sending runs.alerts.wording "
        "runs.templatetags",
        "django django_stubs_ext",
        WEB,
    ),
    "runs.portal.run_table": rule(f"{UI} runs.selection runs.alerts.wording", "django django_stubs_ext", WEB),
    "runs.portal.project": rule(f"{UI} runs.selection runs.portal.run_table", "django django_stubs_ext", WEB),
    "runs.portal.compare": rule(
        f"{UI} runs.selection runs.series.packing runs.portal.run_table", "django msgspec numpy scipy sklearn", WEB
    ),
    "runs.portal.new_run": rule(
        f"{UI} runs.agents runs.client_packages steersman steersman.messages", "django django_stubs_ext", WEB
    ),
    "runs.portal.sign_in": rule("runs.models runs.access runs.sign_in", "django allauth requests", WEB),
    "runs.portal": rule(
        f"{UI} runs.copies runs.sign_in runs.audit runs.selection runs.portal.compare runs.portal.new_run "
        "runs.portal.project runs.portal.run_table "
        "runs.portal.alerting "
        "runs.portal.sign_in",
        "django django_stubs_ext",
        WEB,
    ),
    "runs.admin": rule(f"{UI} runs.alerts.wording runs.pruning steersman", ADMIN_LIBRARIES, WEB),
    "runs.management.commands": rule(
        f"{RECORD} runs.access runs.pruning runs.sign_in runs.branching runs.commands runs.replaying "
        "runs.alerts.sending steersman",
        "django",
        WEB,
    ),
    "runs": rule("runs.access runs.sign_in runs.audit", "django", WEB),
    "trainer": rule("steersman steersman.files", "django", "torch"),
    "trainer.worker": rule("steersman.* trainer", "torch numpy", "django msgspec channels"),
    "trainer.recipes": rule("steersman.files trainer trainer.worker", "torch numpy", "django msgspec channels"),
    "trainer.alerts": rule(
        f"steersman.* {RECORD} runs.commands runs.alerts runs.alerts.detectors runs.alerts.layers runs.alerts.rulebook",
        "django",
        "torch",
    ),
    "trainer.control": rule(
        f"steersman.* {RECORD} runs.recording.record_side runs.series runs.commands runs.replaying trainer "
        "trainer.alerts trainer.worker",
        "django msgspec tqdm",
        "torch",
    ),
    "trainer.remote_hosts": rule(
        f"steersman.* {RECORD} runs.recording.record_side runs.access runs.launches runs.live runs.outage "
        "trainer.alerts trainer.control",
        "django",
        "torch",
    ),
    "trainer.scheduler": rule(
        f"steersman.* {RECORD} runs.copies runs.pruning runs.series trainer.control", "django", "torch"
    ),
    "trainer.management.commands": rule(
        f"steersman.* {RECORD} runs.access runs.branching runs.curation trainer trainer.control trainer.scheduler",
        "django",
        "torch",
    ),
    "monitor_site.sqlite": rule("steersman.files", "django", "torch"),
    "monitor_site.postgresql": rule(libraries="django psycopg psycopg_pool", never="torch"),
    "monitor_site.environment": rule("steersman steersman.files", "django environ", "torch"),
    "monitor_site": rule(
        "steersman steersman.files monitor_site.environment runs.live runs.metrics runs.outage runs.recording "
        "runs.portal.sign_in",
        "asgiref django channels channels_redis redis environ csp psutil whitenoise",
        "torch",
    ),
    "monitor_site.middleware": rule("monitor_site", "asgiref django csp", "torch"),
    "monitor_site.serving": rule(
        "monitor_site runs.* steersman.* trainer trainer.remote_hosts",
        "channels django psutil daphne twisted autobahn zope",
        "torch",
    ),
    "monitor_site.serving.doctor": rule(
        "monitor_site monitor_site.serving runs.copies runs.pruning runs.sign_in steersman.* trainer trainer.control",
        "django channels redis",
        "torch",
    ),
    "monitor_site.serving.archive": rule(
        "monitor_site monitor_site.serving runs.* steersman.* trainer.*", "django msgspec", "torch"
    ),
    "monitor_site.serving.demo": rule("monitor_site monitor_site.serving runs.* steersman.*", "django", "torch"),
    "monitor_site.serving.management.commands": rule(
        "monitor_site.* runs.* steersman.* trainer.*", "daphne django", "torch"
    ),
}
# Imports inside a function that only a separate process runs, so that other processes do not load them.
OWN_PROCESS = {("trainer.control.publish", "trainer.worker.recipe")}


@cache
def modules() -> dict[str, Path]:
    """Return every module of the product with its file."""
    found = {}
    for top in sorted({name.split(".")[0] for name in RULES}):
        for path in sorted((ROOT / top).rglob("*.py")):
            name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
            found[name.removesuffix(".__init__")] = path
    return {name: path for name, path in found.items() if not name.startswith(MIGRATIONS)}


def package_of(module: str) -> str:
    """Return the package whose file a module is: itself if it is an `__init__.py`, or a program with its own rule."""
    return module if modules()[module].name == "__init__.py" or module in RULES else module.rpartition(".")[0]


@cache
def imports(path: Path) -> frozenset[str]:
    """Return what a file imports anywhere, by full name: `a.b` of `from a import b` if that is a module of this
    project.

    Imports inside functions, under other names and by `import_module("…")` count; those under TYPE_CHECKING do not.
    """
    tree = ast.parse(path.read_text())
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test)
        for inner in ast.walk(node)
    }
    return frozenset(name for node in ast.walk(tree) if id(node) not in skipped for name in _imported(node))


def _imported(node: ast.AST) -> Iterator[str]:
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom):
        assert node.module and not node.level, "imports are absolute"
        for alias in node.names:
            full = f"{node.module}.{alias.name}"
            yield full if full in modules() else node.module
    elif isinstance(node, ast.Call) and node.args and isinstance(node.args[0], ast.Constant):
        called = ast.unparse(node.func)
        if called.endswith(("import_module", "__import__")) and isinstance(node.args[0].value, str):
            yield node.args[0].value


def is_allowed(package: str, other: str) -> bool:
    """Return whether the files of `package` may import from the package `other` of this project."""
    return package == other or any(
        other == each or (each.endswith(".*") and (other + ".").startswith(each[:-1]))
        for each in RULES[package].packages
    )


def breaches() -> list[str]:
    """Return a sentence for every import that is not allowed."""
    found = []
    for module, path in modules().items():
        package, name = package_of(module), path.relative_to(ROOT)
        if package not in RULES:
            if path.read_text().strip():
                found.append(f"{name}: the package {package} has no rule; add one to tests/layout.py.")
            continue
        for imported in sorted(imports(path)):
            top = imported.split(".")[0]
            if imported in modules():
                if not is_allowed(package, package_of(imported)):
                    found.append(f"{name} imports {imported}: {package} may not import {package_of(imported)}.")
            elif top in TEST_FOLDERS:
                found.append(f"{name} imports {imported}: the product imports no tests.")
            elif top not in STANDARD and top not in RULES[package].libraries:
                found.append(f"{name} imports {imported}: {package} may not import {top}.")
        for library, chain in sorted(reached(module).items()):
            if library in RULES[package].never:
                found.append(f"{name} reaches {library}, by {' > '.join(chain)}: {package} must not.")
    return found


def reached(module: str) -> dict[str, list[str]]:
    """Return every library that imports lead to from `module`, each with the chain of modules that leads there."""
    libraries: dict[str, list[str]] = {}
    chains = {module: [module]}
    waiting = [module]
    while waiting:
        current = waiting.pop()
        for imported in sorted(imports(modules()[current])):
            if imported not in modules():
                libraries.setdefault(imported.split(".")[0], chains[current])
            elif imported not in chains and (current, imported) not in OWN_PROCESS:
                chains[imported] = [*chains[current], imported]
                waiting.append(imported)
    return {library: chain for library, chain in libraries.items() if library not in STANDARD}


def arrows() -> dict[str, list[str]]:
    """Return the packages that each package imports, according to its files."""
    found: dict[str, set[str]] = {package: set() for package in RULES}
    for module, path in modules().items():
        package = package_of(module)
        if package in RULES:
            found[package] |= {package_of(each) for each in imports(path) if each in modules()} - {package}
    return {package: sorted(others) for package, others in found.items()}


def bench_breaches() -> list[str]:
    """Return a sentence for every bench that imports tests; code for both belongs to tests.support."""
    return [
        f"{path.relative_to(ROOT)} imports {imported}: a bench may import tests.support only."
        for path in sorted((ROOT / "bench").rglob("*.py"))
        for imported in sorted(imports(path))
        if imported.startswith("tests") and not imported.startswith("tests.support")
    ]


def circles() -> list[str]:
    """Return a sentence for every arrow that points up in the table, because such arrows could form a circle."""
    order = list(RULES)
    return [
        f"{package} imports {other}, which is above it in the table of tests/layout.py."
        for package, others in arrows().items()
        for other in others
        if other in order and order.index(other) > order.index(package)
    ]


def crowded() -> list[str]:
    """Return a sentence for every folder, tests included, with more than `MOST_FILES` Python files."""
    tops = [*sorted({name.split(".")[0] for name in RULES}), *TEST_FOLDERS]
    folders = {path.parent for top in tops for path in (ROOT / top).rglob("*.py")}
    found = []
    for folder in sorted(folders):
        files = [path for path in folder.glob("*.py") if path.name not in OF_PACKAGES]
        if len(files) > MOST_FILES:
            found.append(
                f"{folder.relative_to(ROOT)} has {len(files)} files: at most {MOST_FILES}; divide it by subject."
            )
    return found


def picture() -> str:
    """Return the packages, from the top to the bottom, each with the packages that it imports."""
    width = max(map(len, RULES))
    lines = []
    for package, others in reversed(arrows().items()):
        first, *rest = _wrapped(others, 118 - width - 4) or ["-"]
        lines.append(f"{package:<{width}} -> {first}")
        lines += [f"{'':<{width}}    {line}" for line in rest]
    return "\n".join(lines)


def _wrapped(names: list[str], width: int) -> list[str]:
    lines: list[str] = []
    for name in names:
        if lines and len(lines[-1]) + len(name) + 1 <= width:
            lines[-1] += f" {name}"
        else:
            lines.append(name)
    return lines


def problems() -> list[str]:
    return [*breaches(), *bench_breaches(), *circles(), *crowded()]


if __name__ == "__main__":
    print(picture())
    found = problems()
    print("\n".join(["", *found]) if found else "", end="\n" if found else "")
    sys.exit(1 if found else 0)
