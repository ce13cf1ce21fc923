"""Static files with hashed names, relative imports of ES modules included."""

from __future__ import annotations

from whitenoise.storage import CompressedManifestStaticFilesStorage


class StaticStorage(CompressedManifestStaticFilesStorage):
    """Hashed names for what `collectstatic` has taken; plain names for the rest, served from where it lies."""

    support_js_module_import_aggregation = True
    # A pass names what imports only what has its name already: as many are needed as modules import one another deep.
    max_post_process_passes = 20

    def stored_name(self, name: str) -> str:
        return str(self.hashed_files.get(self.hash_key(name), name))
