"""Static files with hashed names, also in relative imports of ES modules, and how they are served."""

from __future__ import annotations

from pathlib import Path

from whitenoise.middleware import WhiteNoiseMiddleware
from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticFilesMiddleware(WhiteNoiseMiddleware):
    """Serves static files, without a warning where `collectstatic` has not run: they are found where they lie."""

    def add_files(self, root: str, prefix: str | None = None) -> None:
        if self.autorefresh or Path(root).is_dir():
            super().add_files(root, prefix)


class StaticStorage(CompressedManifestStaticFilesStorage):
    """Hashed names for files that `collectstatic` has copied; plain names for the rest, served from their folders."""

    support_js_module_import_aggregation = True
    # A pass names what imports only what has its name already: as many are needed as modules import one another deep.
    max_post_process_passes = 20

    def stored_name(self, name: str) -> str:
        return str(self.hashed_files.get(self.hash_key(name), name))
