"""The pages of the portal."""

import django_stubs_ext

# Lets views and forms name their model, as in DetailView[Run], for the type checker.
django_stubs_ext.monkeypatch()
