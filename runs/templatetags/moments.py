"""Times in templates: the browser applies the reader's time zone and language."""

from __future__ import annotations

from datetime import datetime

from django import template
from django.utils.formats import date_format
from django.utils.html import format_html
from django.utils.safestring import SafeString

register = template.Library()


@register.filter
def moment(at: datetime) -> SafeString:
    """Return a `time` element that `static/js/shared/moments.js` shows in the reader's time zone; without scripts in
    UTC.
    """
    return format_html('<time datetime="{}">{} UTC</time>', at.isoformat(), date_format(at, "DATETIME_FORMAT"))
