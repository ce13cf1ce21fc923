"""`steersman login` and `steersman logout`."""

from __future__ import annotations

import argparse
import getpass
import os
import sys
from pathlib import Path
from typing import Any

from steersman.command_line.problems import Problem
from steersman.exit_codes import EXIT_FAILED, EXIT_FINISHED
from steersman.portal.addresses import BadAddress, is_readable_on_the_way, portal_address
from steersman.portal.logins import (
    TOKEN_VARIABLE,
    Login,
    NoLogin,
    add_login,
    logins_path,
    read_logins,
    remove_login,
)
from steersman.portal.requests import OTHER_VERSION, PortalError, Refused, check_login

LONGEST_TOKEN = 1000


def add_commands(commands: Any) -> None:
    """Add the commands to what `argparse.ArgumentParser.add_subparsers` returned."""
    login = commands.add_parser(
        "login",
        help="store the token of a portal",
        description="Check the token of a portal, and store it so that only you can read it. The token needs the "
        "scope train.",
    )
    login.add_argument("portal", help="address of the portal, such as https://steersman.example.org")
    login.add_argument(
        "--token-file",
        metavar="FILE",
        help=f"file with the token (- for standard input); default: the variable {TOKEN_VARIABLE}, otherwise a prompt",
    )
    login.set_defaults(function=log_in)
    logout = commands.add_parser(
        "logout",
        help="remove the token of a portal from this machine",
        description="Remove the token of a portal from this machine. Revoke it in the portal if somebody else "
        "may have it.",
    )
    logout.add_argument("portal", nargs="?", default="", help="address of the portal; default: the newest login")
    logout.set_defaults(function=log_out)


def log_in(chosen: argparse.Namespace) -> int:
    """Check a token and store it."""
    address = _address(chosen.portal)
    if is_readable_on_the_way(address):
        print(f"steersman: {address} has no TLS: others on the network can read the token.", file=sys.stderr)
    login = Login(address, _token(chosen.token_file, address))
    try:
        check_login(login)
        _check_version(login)
    except PortalError as error:
        raise Problem(str(error), EXIT_FAILED) from error
    path = logins_path(os.environ)
    try:
        add_login(path, login)
    except NoLogin as error:
        raise Problem(str(error), EXIT_FAILED) from error
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror}.", EXIT_FAILED) from error
    print(f"Logged in to {address}. The token is in {path}.")
    return EXIT_FINISHED


def log_out(chosen: argparse.Namespace) -> int:
    """Remove a token from this machine."""
    path = logins_path(os.environ)
    try:
        known = read_logins(path).portals
        address = _address(chosen.portal) if chosen.portal else ""
        if not known:
            raise Problem("There is no login on this machine.")
        address = address or known[0].address
        if not remove_login(path, address):
            others = ", ".join(each.address for each in known)
            raise Problem(f"There is no login for {address}. This machine has logins for {others}.")
    except NoLogin as error:
        raise Problem(str(error), EXIT_FAILED) from error
    except OSError as error:
        raise Problem(f"{path} cannot be written: {error.strerror}.", EXIT_FAILED) from error
    print(f"Logged out of {address}. The token remains valid until you revoke it in the portal.")
    return EXIT_FINISHED


def _check_version(login: Login) -> None:
    """Raise `Refused` if the portal has another version; print how else trainings cannot report, or how they will."""
    try:
        from steersman.agent.remote.portal_link import check_version
    except ModuleNotFoundError:
        # Only `steersman run` needs these packages: it names them.
        return
    try:
        if remark := check_version(login):
            print(f"steersman: {remark}", file=sys.stderr)
    except PortalError as error:
        if isinstance(error, Refused) and error.status == OTHER_VERSION:
            raise
        print(f"steersman: trainings cannot report to the portal now: {error}", file=sys.stderr)


def _address(text: str) -> str:
    try:
        return portal_address(text)
    except BadAddress as error:
        raise Problem(f"portal: {error}") from error


def _token(file: str | None, address: str) -> str:
    """Return the token from a file, from the environment, or as it is typed. Raises `Problem` if it is not one."""
    if file is not None:
        token, source = _read(file), f"token-file: {file}"
    elif TOKEN_VARIABLE in os.environ:
        token, source = os.environ[TOKEN_VARIABLE], TOKEN_VARIABLE
    elif sys.stdin.isatty():
        token, source = getpass.getpass(f"Token for {address} (with the scope train): "), "token"
    else:
        raise Problem(
            f"token: there is no terminal in which to enter the token. Give --token-file FILE, or set {TOKEN_VARIABLE}."
        )
    token = token.strip()
    if not token.isascii() or not token.isprintable() or " " in token or not 0 < len(token) <= LONGEST_TOKEN:
        raise Problem(f"{source} has no token: give the one line that the portal showed when the token was made.")
    return token


def _read(file: str) -> str:
    try:
        return sys.stdin.read(LONGEST_TOKEN + 2) if file == "-" else Path(file).read_text()
    except (OSError, UnicodeDecodeError) as error:
        reason = error.strerror if isinstance(error, OSError) else "not a text file in UTF-8"
        raise Problem(f"token-file: {file} cannot be read ({reason}).") from error
