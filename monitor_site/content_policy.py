"""The Content-Security-Policy of the portal, and a wider one for the admin."""

from __future__ import annotations

from csp.constants import SELF, UNSAFE_EVAL, UNSAFE_INLINE
from csp.middleware import CSPMiddleware, PolicyParts
from django.http import HttpRequest
from django.http.response import HttpResponseBase

ADMIN = "/admin/"
# The theme's Alpine.js evaluates the expressions in its attributes and sets styles; scripts of other hosts and inline
# scripts are forbidden there too.
OF_ADMIN = {"script-src": [SELF, UNSAFE_EVAL], "style-src": [SELF, UNSAFE_INLINE]}


class ContentPolicy(CSPMiddleware):
    """Sends `CONTENT_SECURITY_POLICY`; on pages of the admin, `OF_ADMIN` replaces directives of the same names."""

    def get_policy_parts(
        self, request: HttpRequest, response: HttpResponseBase, report_only: bool = False
    ) -> PolicyParts:
        parts = super().get_policy_parts(request, response, report_only)
        if request.path_info.startswith(ADMIN) and not report_only:
            parts.replace = {**(parts.replace or {}), **OF_ADMIN}
        return parts
