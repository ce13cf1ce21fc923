"""`manage.py serve`, `serve_portal`, `demo`, `doctor`, `first_login` and `invite`."""
