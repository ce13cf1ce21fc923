"""The GPU check, rehearsed."""
