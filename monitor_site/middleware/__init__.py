"""Middleware for all pages: headers of responses, and the reader's time zone."""
