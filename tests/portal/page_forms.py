"""The forms of a page, as a browser would send them."""

from __future__ import annotations

from dataclasses import dataclass, field
from html.parser import HTMLParser

TYPED = frozenset({"text", "search", "email", "url", "textarea"})


@dataclass
class PageForm:
    """`fields` maps names to values, `kinds` maps them to types: text, hidden, select, textarea, …"""

    action: str
    method: str
    fields: dict[str, str] = field(default_factory=dict)
    kinds: dict[str, str] = field(default_factory=dict)

    def add(self, name: str, kind: str, value: str | None) -> None:
        self.kinds[name] = kind
        if value is not None:
            self.fields[name] = value


def forms_of(page: str) -> list[PageForm]:
    """Return the forms of a page. The first of several buttons is pressed; unticked boxes stay so."""
    reader = _Reader()
    reader.feed(page)
    return reader.forms


class _Reader(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.forms: list[PageForm] = []
        self._form: PageForm | None = None
        self._select = ""
        self._pressed = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = {name: value or "" for name, value in attrs}
        name = given.get("name", "")
        if tag == "form":
            self._form, self._pressed = PageForm(given.get("action", ""), given.get("method", "get").lower()), False
            self.forms.append(self._form)
        elif self._form is None:
            return
        elif tag == "option" and self._select and "selected" in given:
            self._form.fields[self._select] = given.get("value", "")
        elif name and tag == "input":
            self._add_input(self._form, name, given)
        elif name and tag == "select":
            self._select = name
            self._form.add(name, "select", "")
        elif name and tag == "textarea":
            self._form.add(name, "textarea", "")
        elif name and tag == "button" and not self._pressed:
            self._pressed = True
            self._form.add(name, "button", given.get("value", ""))

    def _add_input(self, form: PageForm, name: str, given: dict[str, str]) -> None:
        kind = given.get("type", "text")
        if kind in ("submit", "button", "file", "image"):
            return
        is_off = kind in ("checkbox", "radio") and "checked" not in given
        form.add(name, kind, None if is_off else given.get("value", ""))

    def handle_endtag(self, tag: str) -> None:
        if tag == "form":
            self._form = None
        elif tag == "select":
            self._select = ""
