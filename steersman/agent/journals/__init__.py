"""Reading what training processes wrote: journals and consoles of all ranks.

Imports `steersman`. Writing a journal: `steersman.files.journal`. Storing what was read: `trainer.ingest`.
"""
