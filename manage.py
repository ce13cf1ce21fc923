#!/usr/bin/env python
"""Steersman's command line: `python manage.py help` lists everything."""

import io
import os
import sys

# As of a process that SIGPIPE ended.
EXIT_BROKEN_PIPE = 141


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monitor_site.settings")
    try:
        from django.core.management import execute_from_command_line
    except ImportError:
        sys.exit("Django is not installed here. Run 'make setup', then use .venv/bin/python manage.py …")
    show_question_marks()
    try:
        execute_from_command_line(sys.argv)
        sys.stdout.flush()
    except BrokenPipeError:
        # The reader has closed the pipe, as `| head` does. Python would report it again when it flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(EXIT_BROKEN_PIPE)
    except Exception as error:
        from monitor_site.command_errors import explained

        told = explained(error)
        if told is None or "--traceback" in sys.argv:
            raise
        sentence, code = told
        print(f"{type(error).__name__}: {sentence}", file=sys.stderr)
        sys.exit(code)


def show_question_marks() -> None:
    """Print a question mark for each letter that the terminal's encoding does not have."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


if __name__ == "__main__":
    main()
