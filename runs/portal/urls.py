from django.contrib.auth import views as auth
from django.urls import URLPattern, path

from runs.portal import (
    again,
    audit,
    branching,
    checkpoints,
    console,
    keeping,
    members,
    pages,
    patches,
    share,
    texts,
    tokens,
)
from runs.portal.alerting.urls import urlpatterns as alerting
from runs.portal.compare import views as compare
from runs.portal.new_run import agents, installing
from runs.portal.new_run import views as new_run
from runs.portal.project import views as project
from runs.portal.run_table import saved_views
from runs.portal.run_table.exporting import export_runs
from runs.portal.run_table.views import RunList
from runs.portal.sign_in import sessions

urlpatterns: list[URLPattern] = [
    path("login/", pages.LogIn.as_view(), name="login"),
    path("logout/", pages.LogOut.as_view(), name="logout"),
    path("password/", pages.ChangePassword.as_view(), name="password_change"),
    path("password/done/", auth.PasswordChangeDoneView.as_view(), name="password_change_done"),
    path("sessions/", sessions.sessions, name="sessions"),
    path("sessions/<int:pk>/end/", sessions.end_own_session, name="end_session"),
    path("sessions/end-others/", sessions.end_others, name="end_other_sessions"),
    path("texts/<slug:language>/<slug:digest>.js", texts.texts, name="texts"),
    path("texts.js", texts.texts, name="current_texts"),
    path("", RunList.as_view(), name="runs"),
    path("runs/<int:pk>/", pages.RunPage.as_view(), name="run"),
    path("runs/compare/", compare.compare, name="compare"),
    path("runs/export/<str:what>.csv", export_runs, name="export_runs"),
    path("runs/compare/curves/", compare.compare_curves, name="compare_curves"),
    path("runs/compare/importance/", compare.compare_importance, name="compare_importance"),
    path("runs/new/", new_run.new_run, name="new_run"),
    path("runs/new/agent/", agents.run_on_agent, name="run_on_agent"),
    path("runs/new/client/", installing.install_client, name="install_client"),
    path("runs/<int:pk>/queue/", new_run.queue_run, name="queue_run"),
    path("runs/<int:pk>/in-queue/", new_run.in_queue, name="in_queue"),
    path("projects/", members.projects, name="projects"),
    path("projects/<slug:slug>/", project.project_page, name="project"),
    path("projects/<slug:slug>/edit/", project.edit_project, name="edit_project"),
    path("projects/<slug:slug>/views/", saved_views.save, name="save_view"),
    path("projects/<slug:slug>/views/<int:pk>/delete/", saved_views.delete, name="delete_view"),
    path("projects/<slug:slug>/members/", members.members, name="members"),
    path("projects/<slug:slug>/members/<int:pk>/role/", members.change_role, name="change_role"),
    path("projects/<slug:slug>/members/<int:pk>/remove/", members.remove_member, name="remove_member"),
    path("projects/<slug:slug>/invites/<int:pk>/revoke/", members.revoke_invite, name="revoke_invite"),
    path("projects/<slug:slug>/keeping/", keeping.keeping, name="keeping"),
    path("invite/<str:key>/", members.accept_invite, name="invite"),
    path("runs/<int:pk>/checkpoints/<int:checkpoint_id>/", checkpoints.download, name="checkpoint"),
    path("runs/<int:pk>/checkpoints/<int:checkpoint_id>/branch/", branching.branch, name="branch"),
    path("runs/<int:pk>/again/", again.again, name="again"),
    path("runs/<int:pk>/console.txt", console.download, name="console"),
    path("runs/<int:pk>/console/", console.search, name="console_search"),
    path("audit/", audit.audit, name="audit"),
    path("projects/<slug:slug>/audit/", audit.project_audit, name="project_audit"),
    path("runs/<int:pk>/attempts/<int:number>/patch/", patches.download, name="patch"),
    path("projects/<slug:slug>/tokens/", tokens.tokens, name="tokens"),
    path("projects/<slug:slug>/tokens/<int:pk>/revoke/", tokens.revoke_token, name="revoke_token"),
    path("runs/<int:pk>/share/", share.share_run, name="share_run"),
    path("share/<str:token>/", share.SharedRunPage.as_view(), name="share"),
    # Not through include(), because tests read the names of all pages from this list.
    *alerting,
]
