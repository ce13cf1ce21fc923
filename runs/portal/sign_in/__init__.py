"""Pages for a person's own login, sessions and second factor. Imports `runs.sign_in`."""
