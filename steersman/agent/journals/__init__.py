"""Reading what training processes wrote: journals and consoles of all ranks.

Imports `steersman`. Writing a journal: `steersman.files.journal`. Reporting what was read: `steersman.agent.reporting`.
"""
