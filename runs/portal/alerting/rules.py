"""Pages of rules: the list of a project or run, the editor, and a trial on the recorded points of a run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from urllib.parse import urlencode

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.urls import reverse
from django.utils import timezone
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods

from runs.access.roles import COMMANDING_ROLES, membership_in, operators_only, role_in
from runs.alerts.rulebook.trials import Fired, TrialResult, try_rule, try_rules
from runs.alerts.rules import DEFAULT_RULES, RECOVERED, Rule, default_of, recovery_rule, rule_for
from runs.alerts.titles import title_of
from runs.models import AlertRule, Project, RuleAction, Run, Severity
from runs.portal.alerting.offered import Offered, newest_runs, offered_by
from runs.portal.alerting.rule_form import RuleForm
from runs.recording.alert_rules import as_rule, fields_of, rules_of, rules_of_project
from runs.recording.alerts import UNTIL_CLEARED
from runs.series.charts import charts
from runs.series.svg_chart import svg_chart
from runs.templatetags.moments import moment

MOST_STEPS = 5
MOST_CHARTS = 4
MOST_MARKS = 200
CHART_BUCKETS = 300


@dataclass(frozen=True, slots=True)
class Place:
    """The page's project or run, and whether the visitor may change its rules."""

    project: Project
    run: Run | None
    may_edit: bool

    @property
    def address(self) -> str:
        if self.run is not None:
            return reverse("run_rules", args=[self.run.pk])
        return reverse("project_rules", args=[self.project.slug])

    @property
    def own(self) -> QuerySet[AlertRule]:
        """Return the rules that can be changed here."""
        return AlertRule.objects.filter(project=self.project, run=self.run)

    def rules(self) -> tuple[Rule, ...]:
        return rules_of_project(self.project) if self.run is None else rules_of(self.run)

    def require_editor(self) -> None:
        if not self.may_edit:
            raise PermissionDenied(operators_only())


@dataclass(frozen=True, slots=True)
class Row:
    """A rule in the list. `source` is default, project or run. `fired` is None unless the rule was tried."""

    rule: Rule
    title: str
    meaning: str
    source: str
    is_own: bool
    severity: str
    snooze: str
    action: str
    note: str
    fired: tuple[Fired, ...] | None
    edit: str

    @property
    def steps(self) -> list[int]:
        return [fired.step for fired in (self.fired or ())[:MOST_STEPS]]

    @property
    def more(self) -> int:
        return max(0, len(self.fired or ()) - MOST_STEPS)


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def project_rules(request: HttpRequest, slug: str) -> HttpResponse:
    """List the rules of a project; operators and owners switch and delete them by POST."""
    return _rules(request, _of_project(request, slug))


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def run_rules(request: HttpRequest, pk: int) -> HttpResponse:
    """List the rules that apply to a run; operators and owners switch and delete its own by POST."""
    return _rules(request, _of_run(request, pk))


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def project_rule(request: HttpRequest, slug: str) -> HttpResponse:
    """Edit a rule of a project, or try it on the recorded points of a run."""
    return _edit(request, _of_project(request, slug))


@never_cache
@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def run_rule(request: HttpRequest, pk: int) -> HttpResponse:
    """Edit a rule of a run, or try it on its recorded points."""
    return _edit(request, _of_run(request, pk))


def _of_project(request: HttpRequest, slug: str) -> Place:
    own = membership_in(request.user, slug)
    return Place(own.project, None, own.role in COMMANDING_ROLES)


def _of_run(request: HttpRequest, pk: int) -> Place:
    run = get_object_or_404(Run.objects.visible_to(request.user).select_related("project"), pk=pk)
    return Place(run.project, run, role_in(request.user, run.project_id) in COMMANDING_ROLES)


def _rules(request: HttpRequest, place: Place) -> HttpResponse:
    if request.method == "POST":
        place.require_editor()
        _change(request, place)
        return redirect(place.address)
    runs = [] if place.run else newest_runs(place.project)
    tried = _run_to_try(request, place, runs)
    rules, offered = place.rules(), offered_by(place.project, place.run)
    # A trial takes seconds of a core, so it is done on request only.
    result = try_rules(tried, rules) if tried is not None and request.GET.get("try") else None
    context = {
        "place": place,
        "rows": [_row(place, rule, result, offered) for rule in shown(rules)],
        "offered": offered,
        "tried": tried,
        "result": result,
        "runs": runs,
        "offers_recovery": place.own.filter(detector__in=RECOVERED, series="").count() < len(RECOVERED),
        "detectors": [(detector, _title(detector)) for detector in DEFAULT_RULES],
    }
    return render(request, "alerting/rules.html", context)


def shown(rules: tuple[Rule, ...]) -> list[Rule]:
    """Return the rules that apply to something, by detector: those of people, and defaults if none is for all series.

    Rules of the project that the run overrides are left out.
    """
    detectors = [*DEFAULT_RULES, *sorted({rule.detector for rule in rules} - set(DEFAULT_RULES))]
    found = []
    for detector in detectors:
        own = [rule for rule in rules if rule.detector == detector]
        by_run = {rule.series for rule in own if rule.of_run}
        kept = [rule for rule in own if rule.of_run or rule.series not in by_run]
        kept.sort(key=lambda rule: (rule.series, not rule.of_run))
        found += kept if any(not rule.series for rule in kept) else [default_of(detector), *kept]
    return found


def _change(request: HttpRequest, place: Place) -> None:
    """Switch a rule, end its snooze, or delete it. A rule of another place is first copied here."""
    detector, series, do = (request.POST.get(name, "") for name in ("detector", "series", "do"))
    if do == "recover":
        for name in RECOVERED:
            fields = {**fields_of(recovery_rule(name)), "project": place.project, "changed_by_id": request.user.pk}
            place.own.get_or_create(project=place.project, run=place.run, detector=name, series="", defaults=fields)
    elif do == "delete":
        place.own.filter(detector=detector, series=series).delete()
    elif do == "wake":
        place.own.filter(detector=detector, series=series).update(snoozed_until=None)
    elif do in ("on", "off"):
        same = [rule for rule in place.rules() if (rule.detector, rule.series) == (detector, series)]
        if not same and (series or detector not in DEFAULT_RULES):
            return
        # Of rules for the same series, the run's comes last.
        holds = max(same, key=lambda rule: rule.of_run, default=default_of(detector))
        defaults = {**fields_of(holds), "project": place.project}
        row, _made = AlertRule.objects.get_or_create(
            project=place.project, run=place.run, detector=detector, series=series, defaults=defaults
        )
        row.is_on, row.changed_by_id = do == "on", request.user.pk
        row.save(update_fields=["is_on", "changed_by", "changed_at"])


def _edit(request: HttpRequest, place: Place) -> HttpResponse:
    place.require_editor()
    row, rule = _edited(request, place)
    taken = place.own.filter(detector=rule.detector).exclude(pk=row.pk)
    offered = offered_by(place.project, place.run)
    form = RuleForm(request.POST or None, rule=rule, taken=taken, offered=offered, run=place.run)
    runs = [] if place.run else newest_runs(place.project)
    tried, status, result = _run_to_try(request, place, runs), 200, None
    if request.method == "POST":
        if not form.is_valid():
            status = 422
        elif request.POST.get("do") == "try":
            result = None if tried is None else try_rule(tried, form.typed())
        else:
            row.project, row.run, row.detector, row.changed_by_id = (
                place.project, place.run, rule.detector, request.user.pk,
            )  # fmt: skip
            form.save_to(row)
            messages.success(request, _("The rule is saved. Running trainings apply it within seconds."))
            for note in form.notes().values():
                messages.warning(request, note)
            return redirect(place.address)
    title, meaning = title_of(rule.detector)
    context = {
        "place": place,
        "form": form,
        "offered": offered,
        "rule": rule,
        "title": _(title),
        "meaning": _(meaning) if meaning else "",
        "tried": tried,
        "runs": runs,
        "result": result,
        "steps": [fired.step for fired in result.fired[:MOST_STEPS]] if result else [],
        "more": max(0, len(result.fired) - MOST_STEPS) if result else 0,
        "charts": _charts(tried, result.fired) if result and tried else [],
    }
    return render(request, "alerting/rule.html", context, status=status)


def _edited(request: HttpRequest, place: Place) -> tuple[AlertRule, Rule]:
    """Return the row to edit, a new one if there is none, and its current values."""
    number, detector, series = (request.GET.get(name, "") for name in ("rule", "detector", "series"))
    if number:
        if not number.isdecimal() or len(number) > 18:
            raise Http404
        row = get_object_or_404(place.own, pk=int(number))
        return row, as_rule(row)
    if detector not in DEFAULT_RULES:
        raise Http404
    # A new rule starts with the values that apply now.
    rules = [rule for rule in place.rules() if rule.series in ("", series)]
    holds = rule_for(rules, detector, series, timezone.now().timestamp())
    is_of_run = place.run is not None
    return AlertRule(), replace(holds, id=None, series=series[:200], of_run=is_of_run, snoozed_until=None)


def _run_to_try(request: HttpRequest, place: Place, runs: list[Run]) -> Run | None:
    """Return the run to try rules on: that of the page, the chosen one, or the first of `runs`."""
    if place.run is not None:
        return place.run
    asked = request.POST.get("run") or request.GET.get("run") or ""
    chosen = place.project.runs.filter(pk=int(asked)).first() if asked.isdecimal() and len(asked) <= 18 else None
    return chosen or (runs[0] if runs else None)


def _row(place: Place, rule: Rule, result: TrialResult | None, offered: Offered) -> Row:
    title, meaning = title_of(rule.detector)
    is_own = rule.id is not None and rule.of_run == (place.run is not None)
    query = {"rule": rule.id} if is_own else {"detector": rule.detector, "series": rule.series}
    return Row(
        rule=rule,
        title=_(title),
        meaning=_(meaning) if meaning else "",
        source="default" if rule.id is None else "run" if rule.of_run else "project",
        is_own=is_own,
        severity=str(Severity(rule.severity).label) if rule.severity else "",
        snooze=_snooze(rule),
        action=_action(rule),
        note=offered.note_on_series(rule),
        fired=None if result is None or rule.is_of_state else tuple(result.of(rule)),
        edit=f"{place.address}edit/?{urlencode(query)}",
    )


def _snooze(rule: Rule) -> str:
    if not rule.is_snoozed(timezone.now().timestamp()):
        return ""
    until = datetime.fromtimestamp(rule.snoozed_until or 0.0, UTC)
    if until >= UNTIL_CLEARED:
        return _("snoozed until the alert is cleared")
    return format_html(_("snoozed until {time}"), time=moment(until))


def _action(rule: Rule) -> str:
    if not rule.action:
        return ""
    what = str(RuleAction(rule.action).label)
    if rule.action in (RuleAction.SCALE_KNOB, RuleAction.ROLL_BACK):
        what = f"{what}: {rule.knob} × {rule.factor:g}" if rule.factor is not None else what
    return _("%(action)s (dry run)") % {"action": what} if rule.dry_run else what


def _title(detector: str) -> str:
    return _(title_of(detector)[0])


def _charts(run: Run, fired: tuple[Fired, ...]) -> list[SafeString]:
    """Return a chart of each series in which alerts would have begun, with marks."""
    steps: dict[str, list[int]] = {}
    for each in fired:
        if each.series:
            steps.setdefault(each.series, []).append(each.step)
    names = list(steps)[:MOST_CHARTS]
    _seq, found = charts(run.pk, names, CHART_BUCKETS)
    return [
        svg_chart({name: found[name]}, name, axis_label=_("step"), marks=steps[name][:MOST_MARKS])
        for name in names
        if name in found and found[name]["axis"] == "step"
    ]
