"""Markdown that people write, as it appears on pages."""

from __future__ import annotations

import pytest

from runs.markdown.rendering import rendered

HARMLESS = {
    "a", "blockquote", "br", "code", "em", "li", "ol", "p", "pre", "strong", "table", "tbody", "td", "th", "thead",
    "tr", "ul",
}  # fmt: skip


def test_the_usual_marks_become_html() -> None:
    text = "Use **large** batches and *warm up*.\n\n- `train.py`\n- ~~old~~\n\n1. first\n2. second\n\n> quoted"
    html = rendered(text)
    for part in (
        "<strong>large</strong>",
        "<em>warm up</em>",
        "<code>train.py</code>",
        "<s>old</s>",
        "<ol>",
        "<blockquote>",
    ):
        assert part in html, part
    assert rendered("| a | b |\n|---|--:|\n| 1 | 2 |").count("<td>") == 2
    assert rendered("```python\nx = 1 < 2\n```") == "<pre><code>x = 1 &lt; 2\n</code></pre>"


def test_a_line_break_stays_one() -> None:
    assert "<br>" in rendered("first\nsecond")


def test_an_empty_text_gives_nothing() -> None:
    assert rendered("") == rendered(" \n\n ") == ""


def test_headings_are_below_those_of_the_page() -> None:
    assert rendered("# A\n## B\n###### C") == "<h3>A</h3>\n<h4>B</h4>\n<h6>C</h6>"


def test_whole_addresses_become_links_and_file_names_do_not() -> None:
    html = rendered("See https://example.org/a?b=1 and train.py, a@b.example or [here](/runs/7/).")
    assert 'href="https://example.org/a?b=1" rel="noopener noreferrer nofollow"' in html
    assert html.count("<a ") == 2 and 'href="/runs/7/"' in html


@pytest.mark.parametrize(
    "text",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "[x](javascript:alert(1))",
        "[x](java\nscript:alert(1))",
        "[x](data:text/html;base64,PHNjcmlwdD4=)",
        "<javascript:alert(1)>",
        '<a href="https://a.example" onclick="alert(1)">x</a>',
        '[x](https://a.example "title\\" onclick=alert(1)")',
        "<style>body{display:none}</style>",
        "![x](https://tracker.example/pixel.png)",
        '<svg><use href="#i-star"></use></svg>',
        "```html\n<script>alert(1)</script>\n```",
        "`<iframe src=//a.example>`",
        "|<b onmouseover=alert(1)>|\n|---|\n|x|",
    ],
)
def test_nothing_that_runs_or_loads_comes_through(text: str) -> None:
    html = rendered(text).lower()
    tags = {part.partition(">")[0].partition(" ")[0].strip("/") for part in html.split("<")[1:]}
    assert tags <= HARMLESS, html
    for part in html.split("<")[1:]:
        inside = part.partition(">")[0]
        assert " on" not in inside.split('title="')[0] and "style=" not in inside, html
        assert "javascript:" not in inside and "data:" not in inside, html


def test_a_small_text_does_not_become_a_huge_table() -> None:
    wide = f"{'|a' * 333}\n{'|-' * 333}\n"
    for hostile in (wide + "a\n" * 330, wide + "\r".join("b" * 330), "> " + wide.replace("\n", "\n> ") + "> a\n" * 160):
        assert len(rendered(hostile)) < 30 * len(hostile)
    rows = "| 1 | 2 | |\n" * 300
    assert rendered(f"Before.\n\n| a | b | c |\n|---|---|---|\n{rows}").count("<tr>") == 301


def test_half_of_a_character_does_not_end_the_page() -> None:
    assert "�" in rendered("a \ud800 b \x00 c")


def test_a_text_that_many_pages_request_is_rendered_once() -> None:
    assert rendered("**the same** note") is rendered("**the same** note")
    assert rendered.cache_info().maxsize is not None
