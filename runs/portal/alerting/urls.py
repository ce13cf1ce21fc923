"""Addresses of the pages of alerts."""

from django.urls import URLPattern, path

from runs.portal.alerting import destinations, links, mail, rules

urlpatterns: list[URLPattern] = [
    path("alerts/act/<str:token>/", links.alert_link, name="alert_link"),
    path("projects/<slug:slug>/alerts/", destinations.destinations, name="destinations"),
    path("projects/<slug:slug>/alerts/new/<slug:kind>/", destinations.new_destination, name="new_destination"),
    path("projects/<slug:slug>/alerts/<int:pk>/", destinations.destination, name="destination"),
    path("projects/<slug:slug>/alerts/<int:pk>/switch/", destinations.switch_destination, name="switch_destination"),
    path("projects/<slug:slug>/alerts/<int:pk>/delete/", destinations.delete_destination, name="delete_destination"),
    path("projects/<slug:slug>/alerts/<int:pk>/test/", destinations.test_destination, name="test_destination"),
    path("projects/<slug:slug>/alerts/mail/", mail.mail_account, name="mail_account"),
    path("projects/<slug:slug>/alerts/mail/test/", mail.test_mail_account, name="test_mail_account"),
    path("projects/<slug:slug>/alerts/mail/delete/", mail.delete_mail_account, name="delete_mail_account"),
    path("projects/<slug:slug>/rules/", rules.project_rules, name="project_rules"),
    path("projects/<slug:slug>/rules/edit/", rules.project_rule, name="project_rule"),
    path("runs/<int:pk>/rules/", rules.run_rules, name="run_rules"),
    path("runs/<int:pk>/rules/edit/", rules.run_rule, name="run_rule"),
]
