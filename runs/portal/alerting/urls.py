from django.urls import URLPattern, path

from runs.portal.alerting import rules

urlpatterns: list[URLPattern] = [
    path("projects/<slug:slug>/rules/", rules.project_rules, name="project_rules"),
    path("projects/<slug:slug>/rules/edit/", rules.project_rule, name="project_rule"),
    path("runs/<int:pk>/rules/", rules.run_rules, name="run_rules"),
    path("runs/<int:pk>/rules/edit/", rules.run_rule, name="run_rule"),
]
