"""The file with the tokens of portals. Only the person who logged in can read it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from steersman.files.private import make_private, narrow, write_private
from steersman.portal.addresses import portal_address
from steersman.records.typed_json import Malformed, decode, encode

PORTAL_VARIABLE = "STEERSMAN_PORTAL"
TOKEN_VARIABLE = "STEERSMAN_TOKEN"
FILE_NAME = "logins.json"


@dataclass(frozen=True, slots=True)
class Login:
    """A portal by its address, as `portal_address` returns it, and the token for it."""

    address: str
    token: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class Logins:
    """All logins of a person, the newest first."""

    portals: list[Login] = field(default_factory=list)

    def of(self, address: str) -> Login | None:
        return next((each for each in self.portals if each.address == address), None)


class NoLogin(Exception):
    """There is no portal to use, or the file of logins cannot be used. The text says what to do."""


def logins_path(environment: Mapping[str, str]) -> Path:
    """Return where the logins are: in the folder of the user's configuration (XDG Base Directory Specification)."""
    folder = environment.get("XDG_CONFIG_HOME", "")
    # A relative path in this variable has to be ignored.
    base = Path(folder) if os.path.isabs(folder) else Path.home() / ".config"
    return base / "steersman" / FILE_NAME


def read_logins(path: Path) -> Logins:
    """Return the logins in a file; none if there is no file. Other users lose their access to it.

    Raises `NoLogin` if the file cannot be read.
    """
    try:
        narrow(path)
        return decode(Logins, path.read_bytes())
    except FileNotFoundError:
        return Logins()
    except (OSError, Malformed) as error:
        raise NoLogin(f"{path} cannot be read ({error}): remove it, then run steersman login again.") from error


def add_login(path: Path, login: Login) -> None:
    """Store a login as the newest; it replaces one for the same portal. Raises `NoLogin` and `OSError`."""
    others = [each for each in read_logins(path).portals if each.address != login.address]
    _write(path, Logins([login, *others]))


def remove_login(path: Path, address: str) -> bool:
    """Remove the login for a portal; return whether there was one. Raises `NoLogin` and `OSError`."""
    found = read_logins(path)
    others = [each for each in found.portals if each.address != address]
    if len(others) == len(found.portals):
        return False
    _write(path, Logins(others))
    return True


def login_to_use(address: str, environment: Mapping[str, str]) -> Login:
    """Return the login for `address`, for the portal that the environment names, or the newest one.

    A token in the environment is used instead of a stored one. Raises `NoLogin` and `BadAddress`.
    """
    wanted = address or environment.get(PORTAL_VARIABLE, "")
    token = environment.get(TOKEN_VARIABLE, "").strip()
    stored = read_logins(logins_path(environment))
    if not wanted and not stored.portals:
        raise NoLogin(
            "No portal is known: run steersman login https://steersman.example.org with the address of your portal, or "
            f"set {PORTAL_VARIABLE} and {TOKEN_VARIABLE}."
        )
    found = portal_address(wanted) if wanted else stored.portals[0].address
    if token:
        return Login(found, token)
    login = stored.of(found)
    if login is None:
        raise NoLogin(f"There is no token for {found}: run steersman login {found}, or set {TOKEN_VARIABLE}.")
    return login


def _write(path: Path, logins: Logins) -> None:
    make_private(path.parent)
    arriving = path.with_name(f"{path.name}.{os.getpid()}.new")
    try:
        write_private(arriving, encode(logins).decode())
        os.replace(arriving, path)
    finally:
        arriving.unlink(missing_ok=True)
