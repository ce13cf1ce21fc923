"""The pages of the portal, and the addresses that only they read.

Imports all of `runs` except `api` and `admin`. Templates: templates/. Scripts: static/js/.
"""

import django_stubs_ext

# Lets views and forms name their model, as in DetailView[Run], for the type checker.
django_stubs_ext.monkeypatch()
