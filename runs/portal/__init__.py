"""The pages of the portal, and the addresses that only these pages request.

Imports all of `runs` except `api` and `admin`. Its templates are in templates/, its scripts in static/js/.
"""

import django_stubs_ext

# Lets views and forms name their model, as in DetailView[Run], for the type checker.
django_stubs_ext.monkeypatch()
