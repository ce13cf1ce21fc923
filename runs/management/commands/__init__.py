"""`manage.py command` and `create_token`.

`train` and `watch` are in `trainer`, `serve` and `demo` in `monitor_site.serving`.
"""
