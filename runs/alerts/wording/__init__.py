"""Titles and texts of alerts for people, in the language of the reader: on pages, in the admin and in messages."""
