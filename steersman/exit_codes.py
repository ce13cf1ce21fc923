"""Exit codes of the project's commands. `train` uses all except the last; other commands use 0, 1, 2 and 130.

A shell reports 130 for a process that SIGINT ended: 128 + 2.
"""

from __future__ import annotations

EXIT_FINISHED = 0  # all epochs done, or stopped with a checkpoint
EXIT_FAILED = 1  # the recipe or the training process failed
EXIT_BAD_INPUT = 2  # unknown run, bad parameter, missing device; also what argparse uses
EXIT_HELD = 3  # another process holds the run
EXIT_FENCED = 4  # another attempt holds the run: this one wrote nothing more
EXIT_INTERRUPTED = 130  # a second Ctrl-C ended it immediately
EXIT_NO_OUTCOME = 3  # `command --wait`: the command has no outcome yet
