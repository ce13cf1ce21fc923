"""`manage.py train`, `watch`, `create_run` and `recipes`.

`serve`, `demo` and `doctor` are in `monitor_site.serving`.
"""
