"""Pages of the list by number, with the total number of runs."""

from __future__ import annotations

from django.core.paginator import Page, Paginator
from django.db.models import Count, Window

from runs.models import RunQuerySet

# A larger number is no page of any list.
MOST_DIGITS = 9


def asked_number(asked: str) -> int:
    """Return the number of the page that an address asks for, 1 if it is no number."""
    return max(1, int(asked)) if asked.isdecimal() and len(asked) <= MOST_DIGITS else 1


def counted_page(runs: RunQuerySet, asked: str, size: int) -> Page[int]:
    """Return the numbers of the runs on a page; the first page if `asked` is not a number, the last if there are fewer.

    One query finds the page and counts all runs, so the search is evaluated once.
    """
    number = asked_number(asked)
    counted = runs.annotate(total=Window(Count("*"))).values_list("pk", "total")
    found = list(counted[(number - 1) * size : number * size])
    total = found[0][1] if found else 0
    if not found and number > 1 and (total := runs.count()):
        number = -(-total // size)
        found = list(counted[(number - 1) * size : number * size])
    paginator: Paginator[int] = Paginator([], size)
    paginator.count = total
    page = paginator.get_page(number)
    page.object_list = [pk for pk, _total in found]
    return page
