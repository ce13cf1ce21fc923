"""Static files with hashed names, also in relative imports of ES modules, and their middleware."""

from __future__ import annotations

from pathlib import Path

from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """Serves static files.

    If `collectstatic` has not run, it serves them from their source folders without a warning.
    """

    def add_files(self, root: str, prefix: str | None = None) -> None:
        if self.autorefresh or Path(root).is_dir():
            super().add_files(root, prefix)


class StaticStorage(CompressedManifestStaticFilesStorage):
    """Hashed names for files that `collectstatic` has copied; plain names for the rest, served from their folders."""

    support_js_module_import_aggregation = True
    # A pass hashes the files whose imports are already hashed, so it takes as many passes as imports are nested.
    max_post_process_passes = 20

    def stored_name(self, name: str) -> str:
        return str(self.hashed_files.get(self.hash_key(name), name))
