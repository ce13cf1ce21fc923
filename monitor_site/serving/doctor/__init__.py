"""`manage.py doctor`: checks of this host and of the services, each with a remedy. Never imports torch."""
