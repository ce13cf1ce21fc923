"""An empty wheel of the client, for pages that only show which version exists."""

from __future__ import annotations

import zipfile
from pathlib import Path


def write_wheel(folder: Path, version: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"steersman-{version}-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        metadata = f"Metadata-Version: 2.1\nName: steersman\nVersion: {version}\nRequires-Python: >=3.10\n"
        archive.writestr(f"steersman-{version}.dist-info/METADATA", metadata)
    return path
