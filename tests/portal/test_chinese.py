"""Simplified Chinese: chosen by a form, kept in a cookie, complete, with no English left on any page."""

from __future__ import annotations

import ast
import gettext
import json
import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import polib
import pytest
from django.conf import settings
from django.contrib.auth.models import User
from django.test import Client
from django.urls import resolve
from django.utils.translation import templatize

from monitor_site import foreign_texts
from runs.models import DestinationKind, Recipe
from runs.portal.urls import urlpatterns
from runs.protocol.commands import COMMANDS
from runs.protocol.events import EVENTS
from tests.browser.test_axe import NO_PAGES
from trainer.control.publish import describe
from trainer.recipe_names import BUILT_IN

ROOT = Path(settings.BASE_DIR)
CATALOGUES = {domain: ROOT / f"locale/zh_Hans/LC_MESSAGES/{domain}.po" for domain in ("django", "djangojs")}
# Calls that mark a text, and the position of the text among their arguments.
MARKS = {
    "_": 0, "gettext": 0, "gettext_lazy": 0, "gettext_noop": 0, "ngettext": 0, "ngettext_lazy": 0,
    "pgettext": 1, "pgettext_lazy": 1, "npgettext": 1, "npgettext_lazy": 1,
}  # fmt: skip
SCRIPT_TEXT = re.compile(r"""\bgettext\(\s*("(?:[^"\\]|\\.)*")""")
LITERAL = r"""u?('(?:[^'\\]|\\.)*'|"(?:[^"\\]|\\.)*")"""
TEMPLATE_CALL = re.compile(rf"\b(n?p?gettext|_)\(\s*{LITERAL}(?:\s*,\s*{LITERAL})?")
LOGGED = re.compile(r'"(?:speed|optimizer)/(\w+)"')
SAMPLED = re.compile(r"`host/(\w+)`")
# Rows of the glossary: English, Chinese, and synonyms that are not used.
ROW = re.compile(r"^\| ([a-z ]+) \| (\S+) \| (\S*) ?\|$", re.MULTILINE)
GLOSSARY: list[tuple[str, str, str]] = ROW.findall((ROOT / "docs" / "translations.md").read_text())
PLACE = re.compile(r"%\(\w+\)(?:\.\d)?[sdf]|%%|\{\w*\}|<[^>]+>")


def sources(folder: str, suffix: str) -> list[Path]:
    return sorted((ROOT / folder).rglob(f"*{suffix}"))


def marked(source: str) -> Iterator[str]:
    """Yield the texts that Python source marks for translation."""
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        name = node.func.id if isinstance(node.func, ast.Name) else getattr(node.func, "attr", "")
        if name in MARKS and len(node.args) > MARKS[name]:
            text = node.args[MARKS[name]]
            if isinstance(text, ast.Constant) and isinstance(text.value, str):
                yield text.value


def marked_in_template(source: str) -> Iterator[str]:
    """Yield the texts of a template, whose tags Django rewrites as calls among text that is not Python."""
    for call, first, second in TEMPLATE_CALL.findall(templatize(source)):
        yield ast.literal_eval(second if call.endswith("pgettext") else first)


def texts_of(domain: str) -> set[str]:
    if domain == "djangojs":
        scripts = [path.read_text() for path in sources("static/js", ".js")]
        return {json.loads(text) for script in scripts for text in SCRIPT_TEXT.findall(script)}
    rooms = ("steersman", "runs", "trainer", "monitor_site")
    texts = {text for room in rooms for path in sources(room, ".py") for text in marked(path.read_text())}
    for path in sources("templates", ".html"):
        texts |= set(marked_in_template(path.read_text()))
    return texts


@pytest.mark.parametrize("domain", CATALOGUES)
def test_every_text_has_its_chinese(domain: str) -> None:
    texts = texts_of(domain)
    assert len(texts) > 100
    entries = {entry.msgid: entry for entry in polib.pofile(str(CATALOGUES[domain])) if not entry.obsolete}
    assert sorted(texts - set(entries)) == []
    assert [entry.msgid for entry in entries.values() if not entry.translated()] == []


@pytest.mark.parametrize("domain", CATALOGUES)
def test_every_translation_fills_the_same_places(domain: str) -> None:
    for entry in polib.pofile(str(CATALOGUES[domain])):
        english = entry.msgid_plural or entry.msgid
        for chinese in [entry.msgstr] if entry.msgstr else entry.msgstr_plural.values():
            assert sorted(PLACE.findall(chinese)) == sorted(PLACE.findall(english)), entry.msgid


@pytest.mark.parametrize("domain", CATALOGUES)
def test_the_compiled_catalogue_is_up_to_date(domain: str) -> None:
    path = CATALOGUES[domain]
    with path.with_suffix(".mo").open("rb") as file:
        compiled = gettext.GNUTranslations(file)
    for entry in polib.pofile(str(path)):
        if entry.msgid_plural:
            assert compiled.ngettext(entry.msgid, entry.msgid_plural, 2) == entry.msgstr_plural[0]
        elif entry.msgctxt:
            assert compiled.pgettext(entry.msgctxt, entry.msgid) == entry.msgstr
        else:
            assert compiled.gettext(entry.msgid) == entry.msgstr


@pytest.mark.parametrize("spec", BUILT_IN)
def test_what_built_in_recipes_declare_is_listed(spec: str) -> None:
    declared = describe(spec)
    helps = [entry["help"] for entry in declared["parameters"] if entry.get("help")]
    assert {declared["title"], declared["description"], *helps} <= set(foreign_texts.RECIPES)


def test_what_commands_and_events_declare_is_marked() -> None:
    declared = {text for command in COMMANDS.values() for text in (command.kind, command.help)}
    assert declared | set(EVENTS) <= texts_of("django")


@pytest.mark.parametrize("spec", BUILT_IN)
def test_what_their_knobs_declare_is_known_to_the_scripts(spec: str) -> None:
    assert {knob["help"] for knob in describe(spec)["knobs"]} <= texts_of("djangojs")


def test_series_that_recipes_and_hosts_have_are_named_in_chinese() -> None:
    logged = {name for path in sources("trainer", ".py") for name in LOGGED.findall(path.read_text())}
    sampled = set(SAMPLED.findall((ROOT / "docs" / "protocol.md").read_text()))
    assert {"step_ms", "gradient_norm"} <= logged and {"disk_free_gib", "cpu"} <= sampled
    # The script `format.js` turns names into labels this way; used and total have separate labels.
    labels = {name.replace("_", " ").replace("cpu", "CPU") if name == "cpu" else name.replace("_", " ").capitalize()
              for name in logged | sampled if not re.search("_(used|total)_", name)}  # fmt: skip
    assert labels - texts_of("djangojs") == set()


# The catalogue, and the pages that are translated as a whole.
@pytest.mark.parametrize(
    "path", [*CATALOGUES.values(), *sorted((ROOT / "docs" / "zh-CN").glob("*.md"))], ids=lambda path: path.name
)
def test_one_thing_has_one_name(path: Path) -> None:
    text = path.read_text()
    if path.suffix == ".po":
        entries = polib.pofile(str(path))
        text = "\n".join("".join([entry.msgstr, *entry.msgstr_plural.values()]) for entry in entries)
    assert [word for _, _, avoided in GLOSSARY for word in avoided.split("、") if word and word in text] == []


def test_words_of_the_glossary_are_those_of_the_catalogue() -> None:
    assert len(GLOSSARY) > 40
    entries = {entry.msgid: entry.msgstr for entry in polib.pofile(str(CATALOGUES["django"])) if not entry.msgctxt}
    named = {english: chinese for english, chinese, _ in GLOSSARY if english in entries}
    assert len(named) > 30
    assert {english: entries[english] for english, chinese in named.items() if chinese not in entries[english]} == {}


@pytest.mark.django_db
def test_it_keeps_the_language_of_somebody_without_an_account(client: Client) -> None:
    assert '<html lang="en">' in client.get("/login/").content.decode()
    answer = client.post("/i18n/setlang/", {"language": "zh-hans", "next": "/login/"})
    assert answer.status_code == 302 and answer["Location"] == "/login/"
    cookie = answer.cookies["steersman_language"]
    assert cookie.value == "zh-hans" and cookie["samesite"] == "Lax" and cookie["max-age"] == 31_536_000
    assert '<html lang="zh-hans">' in client.get("/login/").content.decode()
    assert '<html lang="zh-hans">' in client.get("/share/nothing/").content.decode()


@pytest.mark.django_db
def test_it_offers_the_other_language_in_its_own_name(client: Client) -> None:
    page = client.get("/login/").content.decode()
    assert 'value="zh-hans" lang="zh-hans"' in page and "简体中文" in page
    assert 'value="en"' not in page
    page = client.get("/login/", headers={"accept-language": "zh-CN"}).content.decode()
    assert 'value="en" lang="en"' in page and "English" in page and "英语" not in page


@pytest.mark.django_db
def test_it_takes_the_language_that_the_browser_asks_for(client: Client) -> None:
    page = client.get("/login/", headers={"accept-language": "zh-CN,zh;q=0.9,en;q=0.5"}).content.decode()
    assert '<html lang="zh-hans">' in page


@pytest.mark.django_db
def test_the_scripts_get_their_texts(client: Client) -> None:
    scripts = client.get("/texts.js", headers={"accept-language": "zh-CN"}).content.decode()
    assert json.dumps("验证损失").strip('"') in scripts or "验证损失" in scripts


class Visible(HTMLParser):
    """The parts of a page that are read or spoken: text, and the attributes with labels."""

    SILENT = {"script", "style", "code", "pre", "kbd"}
    NAMES = {"aria-label", "title", "placeholder", "alt", "data-label"}

    def __init__(self) -> None:
        super().__init__()
        self.words: list[str] = []
        self._silent = 0
        self._icon = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self._silent += tag in self.SILENT
        # The admin shows its icons as names in a symbol font.
        self._icon = "material-symbols-outlined" in (dict(attrs).get("class") or "")
        self.words += [value for name, value in attrs if name in self.NAMES and value and "." not in value]

    def handle_endtag(self, tag: str) -> None:
        self._silent -= tag in self.SILENT
        self._icon = False

    def handle_data(self, data: str) -> None:
        if not self._silent and not self._icon and data.strip():
            self.words.append(data.strip())


# Names of people, projects, runs, recipes, metrics and devices, and words that Chinese writes in Latin letters.
NAMES = """
    English
    CSV API GPU CPU UTC JavaScript Pages pages live ended bare again mnist digits transformer MNIST Adam AdamW
    Transformer Python PyTorch torch Markdown
    float32 bfloat16 float16 auto rate width owner viewer operator gpu host notebook link
    manage py watch make serve validation_loss train loss accuracy Enter Tab PNG SHA openapi json cuda cpu Ctrl Shift
    the loss is no finite number zh-hans admin train_loss int float str bool choice true false
    nan NaN rank documentation sources python run id Digits quick text GiB
    Apprise Prometheus metrics run stopping SIGTERM SIGKILL
    DingTalk WeCom Webhook SEC TLS STARTTLS SMTP IMAP POP3 Gmail Asia Shanghai Europe Berlin com smtp gmail
    jsons hook example org dingtalk c3d4 Non Finite finite Spike STEERSMAN_PUBLIC_URL
    STEERSMAN_EMAIL_URL qyapi ntfys ntfy slack
    tgram lark topic client steersman agent toml resnet
    weight_decay matrices biases batches mode mean sum
    Markdown attach blocks
"""
# Names of series, prefixes of tokens, addresses of this test.
MADE_NAME = re.compile(r"\w+(/\w+)+|stm_[\w-]+|https?://\S+")
WORD = re.compile(r"[A-Za-z][A-Za-z0-9_]{2,}")


def english_of(page: str) -> list[str]:
    """Return the visible lines with an English word that is not a name."""
    reader = Visible()
    reader.feed(page)
    parameters = {entry["name"] for recipe in Recipe.objects.all() for entry in recipe.parameters}
    names = set(WORD.findall(NAMES)) | parameters
    return [line for line in reader.words if set(WORD.findall(MADE_NAME.sub("", line))) - names]


PORTAL = {
    "": ("/login/", "/share/{share}/", "/share/nothing/", "/invite/{invite}/", "/invite/nothing/",
         "{pause_link}", "{late_link}", "/alerts/act/nothing/"),
    "owner": (
        "/", "/?q=none", "/?group=parameter:rate&open=0.001", "/projects/pages/",
        "/projects/pages/edit/", "/runs/{live}/", "/runs/{ended}/", "/runs/{bare}/",
        "/runs/compare/?run={live}&run={ended}",
        "/runs/compare/", "/runs/new/", "/runs/new/?recipe=mnist", "/runs/new/client/",
        "/runs/new/agent/", "/runs/new/agent/?agent={agent}&command=resnet", "/runs/{asked}/", "/projects/",
        "/projects/pages/members/",
        "/projects/pages/keeping/", "/projects/pages/tokens/", "/projects/pages/audit/", "/runs/{live}/share/",
        "/runs/{live}/checkpoints/999999/", "/runs/{branch}/", "/runs/{ended}/checkpoints/{origin}/branch/",
        "/runs/{live}/again/", "/runs/{branch}/again/",
        "/password/", "/password/done/", "/sessions/", "/runs/999999/", "/projects/pages/alerts/",
        *(f"/projects/pages/alerts/new/{kind}/" for kind in DestinationKind.values),
        "/projects/pages/alerts/{destination}/", "/projects/pages/alerts/mail/",
        "/projects/pages/rules/", "/runs/{live}/rules/",
        "/projects/pages/rules/edit/?detector=threshold", "/runs/{live}/rules/edit/?detector=spike",
    ),
    "admin": ("/audit/", "/audit/?below=x&kind=login"),
    "viewer": ("/runs/{live}/", "/projects/pages/", "/runs/new/", "/projects/pages/members/", "/projects/pages/tokens/",
               "/projects/pages/alerts/", "/runs/{live}/rules/"),
}  # fmt: skip


def test_every_page_of_the_portal_is_looked_at() -> None:
    pages = [page.replace("{pause_link}", "/alerts/act/1/") for of_one in PORTAL.values() for page in of_one]
    paths = [re.sub(r"{\w+}", "1", page.split("?")[0]) for page in pages if "_link}" not in page]
    seen = {resolve(path).url_name for path in paths}
    without = {pattern.name for pattern in urlpatterns} - NO_PAGES - seen
    assert not without, f"add an address to PORTAL: {sorted(str(name) for name in without)}"


@pytest.mark.parametrize(("name", "address"), [(name, page) for name, pages in PORTAL.items() for page in pages])
def test_no_english_is_left_on_a_page_of_the_portal(places: dict[str, Any], name: str, address: str) -> None:
    client = Client(headers={"accept-language": "zh-CN"})
    if name:
        client.force_login(User.objects.get(username=name))
    assert english_of(client.get(address.format(**places)).content.decode()) == [], address


ADMIN = ("", "runs/run/", "runs/run/{live}/change/", "runs/run/add/", "runs/project/", "runs/recipe/", "runs/host/",
         "runs/alertdestination/", "runs/alertdelivery/",
         "runs/membership/", "runs/accesstoken/", "runs/invite/", "runs/auditentry/", "auth/user/",
         "axes/accessattempt/")  # fmt: skip


@pytest.mark.parametrize("address", ADMIN)
def test_no_english_is_left_on_a_page_of_the_admin(places: dict[str, Any], address: str) -> None:
    client = Client(headers={"accept-language": "zh-CN"})
    client.force_login(User.objects.get(username="admin"))
    assert english_of(client.get("/admin/" + address.format(**places)).content.decode()) == [], address
