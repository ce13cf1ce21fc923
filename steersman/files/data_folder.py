"""The folder of all state: created for its owner only, and refused if others have access. Does not import Django."""

from __future__ import annotations

import logging
import os
import pwd
import shlex
from collections.abc import Mapping
from pathlib import Path

from steersman.files.private import OF_OTHERS, make_private, narrow

logger = logging.getLogger(__name__)
DATA_VARIABLE = "STEERSMAN_DATA"
TRAININGS_FOLDER = "steersman-runs"
SHARED_VARIABLE = "STEERSMAN_SHARED_DATA"
# The file exists while `manage.py restore` puts files in place.
UNFINISHED_RESTORE = "restore-unfinished"


class UnfitFolder(Exception):
    """The data folder cannot be used as it is; the text names the folder and the remedy."""


def training_data_folder(environment: Mapping[str, str]) -> Path:
    """Return the folder for the records of trainings of this host; make it if it is missing. Raises `UnfitFolder`."""
    default = Path.cwd() / TRAININGS_FOLDER
    folder = Path(environment.get(DATA_VARIABLE) or default).expanduser().resolve()
    is_shared = environment.get(SHARED_VARIABLE) == "1"
    prepare(folder, default, shared=is_shared)
    refuse_unfit(folder, shared=is_shared)
    return folder


def prepare(folder: Path, default: Path, *, shared: bool) -> None:
    """Create the data folder if it is missing. Others lose access to our own default folder, which earlier versions
    left open.

    Raises `UnfitFolder` if it cannot be created, or is not writable.
    """
    try:
        make_private(folder)
    except OSError as error:
        raise UnfitFolder(
            f"The data folder {folder} cannot be made ({error.strerror}): set STEERSMAN_DATA to a folder of your own."
        ) from error
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UnfitFolder(
            f"The data folder {folder} cannot be written to: set STEERSMAN_DATA to a folder of your own, or change its "
            "permissions."
        )
    if folder == default.resolve() and not shared and narrow(folder):
        logger.warning("%s was accessible to other users of this host: its mode was changed to 0700", folder)


def refuse_unfit(folder: Path, *, shared: bool) -> None:
    """Raise `UnfitFolder` if others have access to the data folder, and no setting allows it.

    Also if a restore has begun and not ended, because the installation is then incomplete.
    """
    if os.pathsep in str(folder):
        # Scripts find the client through PYTHONPATH, in which this character cannot be escaped.
        raise UnfitFolder(
            f"The data folder {folder} has a {os.pathsep} in its path: set STEERSMAN_DATA to a path without it."
        )
    problem = "" if shared else who_else(folder)
    if problem:
        raise UnfitFolder(problem)
    if (folder / UNFINISHED_RESTORE).exists():
        raise UnfitFolder(
            f"A restore into the data folder {folder} has not ended: wait for it or, if it was interrupted, run "
            "`manage.py restore` with the same file again."
        )


def who_else(folder: Path) -> str:
    """Return a sentence with those who have access to `folder` and the remedy, "" if only its owner has."""
    found = folder.stat()
    on_purpose = f"or allow it with {SHARED_VARIABLE}=1"
    if found.st_uid not in (os.getuid(), 0):
        owner = _name_of(found.st_uid)
        return (
            f"The data folder {folder} belongs to {owner}, who can read and change everything in it: run the command "
            f"as {owner}, set STEERSMAN_DATA to a folder of your own, {on_purpose}."
        )
    if found.st_mode & OF_OTHERS:
        return (
            f"Other users of this host may enter the data folder {folder} (mode {found.st_mode & 0o777:04o}), where "
            f"passwords and keys are kept: close it with `chmod 700 {shlex.quote(str(folder))}`, {on_purpose}."
        )
    return ""


def _name_of(user: int) -> str:
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return f"user {user}"
