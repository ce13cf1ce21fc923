"""Pages of a person's own sign-in. Imports `runs.sign_in`."""
