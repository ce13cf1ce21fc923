"""Audit entries for changed accounts, projects, roles, invites, tokens, rules and destinations, written by model
signals.

Pages, admin, API and commands are therefore all covered. Entries store the names of changed fields but not their
values, except roles, because a value may be a secret.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from allauth.core import context
from django.contrib.auth.models import User
from django.db import models
from django.db.models.signals import post_delete, post_save, pre_save

from runs.access.addresses import address_of
from runs.access.notices import invite_revoked, invite_used, token_first_used
from runs.audit.entries import Actor, record
from runs.models import (
    AccessToken,
    AlertDestination,
    AlertRule,
    AuditKind,
    Invite,
    MailAccount,
    Membership,
    Project,
    SavedView,
    TokenScope,
)

# Fields that change automatically, or that name the author of other changes.
PASSED_OVER = frozenset({"id", "last_login", "last_used_at", "changed_by", "changed_at", "created_by", "created_at"})
BEFORE = "_audited_before"


@dataclass(frozen=True, slots=True)
class Facts:
    """The fields of a row that an audit entry stores."""

    person: User | None = None
    project: Project | None = None
    run: int | None = None
    what: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Watched:
    """An audited model: the kinds of its entries, and their content."""

    added: AuditKind
    changed: AuditKind
    deleted: AuditKind
    facts: Callable[[Any], Facts]


def _of_rule(rule: AlertRule) -> Facts:
    return Facts(project=rule.project, run=rule.run_id, what=str(rule))


def _of_destination(destination: AlertDestination) -> Facts:
    return Facts(project=destination.project, what=f"{destination.name} ({destination.kind})")


WATCHED: dict[type[models.Model], Watched] = {
    User: Watched(
        AuditKind.ACCOUNT_ADDED, AuditKind.ACCOUNT_CHANGED, AuditKind.ACCOUNT_DELETED, lambda user: Facts(person=user)
    ),
    Project: Watched(
        AuditKind.PROJECT_ADDED,
        AuditKind.PROJECT_CHANGED,
        AuditKind.PROJECT_DELETED,
        lambda project: Facts(project=project),
    ),
    Membership: Watched(
        AuditKind.ROLE_GIVEN,
        AuditKind.ROLE_CHANGED,
        AuditKind.ROLE_TAKEN,
        lambda row: Facts(person=row.user, project=row.project, detail=str(row.role)),
    ),
    AlertRule: Watched(AuditKind.RULE_ADDED, AuditKind.RULE_CHANGED, AuditKind.RULE_DELETED, _of_rule),
    AlertDestination: Watched(
        AuditKind.DESTINATION_ADDED, AuditKind.DESTINATION_CHANGED, AuditKind.DESTINATION_DELETED, _of_destination
    ),
    MailAccount: Watched(
        AuditKind.MAIL_ADDED,
        AuditKind.MAIL_CHANGED,
        AuditKind.MAIL_DELETED,
        lambda account: Facts(project=account.project, what=account.host),
    ),
    SavedView: Watched(
        AuditKind.VIEW_ADDED,
        AuditKind.VIEW_CHANGED,
        AuditKind.VIEW_DELETED,
        lambda view: Facts(project=view.project, what=view.name),
    ),
}


def connect() -> None:
    for model in WATCHED:
        pre_save.connect(_before_save, sender=model, dispatch_uid=f"audit-before-{model.__name__}")
        post_save.connect(_saved, sender=model, dispatch_uid=f"audit-saved-{model.__name__}")
        post_delete.connect(_deleted, sender=model, dispatch_uid=f"audit-deleted-{model.__name__}")
    post_save.connect(_token_saved, sender=AccessToken, dispatch_uid="audit-token-saved")
    post_delete.connect(_token_deleted, sender=AccessToken, dispatch_uid="audit-token-deleted")
    token_first_used.connect(_token_used, dispatch_uid="audit-token-used")
    post_save.connect(_invite_saved, sender=Invite, dispatch_uid="audit-invite-saved")
    invite_used.connect(_invite_used, dispatch_uid="audit-invite-used")
    invite_revoked.connect(_invite_revoked, dispatch_uid="audit-invite-revoked")


def _before_save(
    sender: type[models.Model], instance: models.Model, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    """Store the previous values of the row if an audited field may change."""
    names = _names(sender, update_fields)
    if raw or instance._state.adding or not names:
        setattr(instance, BEFORE, None)
        return
    held = sender._default_manager.filter(pk=instance.pk).values(*names).first()
    setattr(instance, BEFORE, held)


def _saved(sender: type[models.Model], instance: models.Model, created: bool, raw: bool, **kwargs: Any) -> None:
    if raw:
        return
    watched, held = WATCHED[sender], instance.__dict__.pop(BEFORE, None)
    if created:
        _record(watched.added, watched.facts(instance))
    elif held is not None:
        changed = [name for name, value in held.items() if not _is_same(sender, instance, name, value)]
        if isinstance(instance, User) and "password" in changed:
            changed.remove("password")
            # A hash that is renewed at a login is not a new password: Django keeps the new password until the save is
            # over.
            if getattr(instance, "_password", None) is not None:
                record(AuditKind.PASSWORD_CHANGED, person=instance)
        if changed:
            facts = watched.facts(instance)
            detail = f"{held['role']} → {facts.detail}" if "role" in changed else ", ".join(changed)
            _record(watched.changed, facts, detail)


def _deleted(sender: type[models.Model], instance: models.Model, origin: Any = None, **kwargs: Any) -> None:
    """Record a deletion that a person requested.

    Rows that are deleted with their project, person or run have no entry.
    """
    if _is_origin(sender, origin):
        watched = WATCHED[sender]
        _record(watched.deleted, watched.facts(instance))


def _record(kind: AuditKind, facts: Facts, detail: str = "") -> None:
    record(
        kind,
        # A person who joins through an invite is not logged in yet.
        visitor=facts.person,
        person=facts.person,
        project=facts.project,
        run=facts.run,
        what=facts.what,
        detail=detail or facts.detail,
    )


def _names(model: type[models.Model], update_fields: frozenset[str] | None) -> list[str]:
    """Return the audited columns of a model that a save may change."""
    fields = [each for each in model._meta.concrete_fields if each.name not in PASSED_OVER]
    return [each.attname for each in fields if update_fields is None or {each.name, each.attname} & set(update_fields)]


def _is_same(model: type[models.Model], instance: models.Model, name: str, held: Any) -> bool:
    # A form may leave a value that the field itself converts to its type.
    field = next(each for each in model._meta.concrete_fields if each.attname == name)
    return bool(field.to_python(getattr(instance, name)) == held)


def _is_origin(model: type[models.Model], origin: Any) -> bool:
    """Return whether a deletion started from a row of `model`, or from a query for such rows."""
    return isinstance(origin, model) or getattr(origin, "model", None) is model


def _of_token(token: AccessToken) -> dict[str, Any]:
    return {"project": token.project, "run": token.run_id, "what": str(token), "detail": str(token.scope)}


def _kind(token: AccessToken, of_token: AuditKind, of_share: AuditKind) -> AuditKind:
    return of_share if token.scope == TokenScope.SHARE else of_token


def _token_saved(
    sender: Any, instance: AccessToken, created: bool, raw: bool, update_fields: frozenset[str] | None, **kwargs: Any
) -> None:
    if raw:
        return
    if created:
        kind = _kind(instance, AuditKind.TOKEN_MADE, AuditKind.SHARE_MADE)
        record(kind, person=instance.created_by, **_of_token(instance))
    elif update_fields and "revoked_at" in update_fields:
        kind = _kind(instance, AuditKind.TOKEN_REVOKED, AuditKind.SHARE_REVOKED)
        record(kind, person=instance.created_by, **_of_token(instance))


def _token_deleted(sender: Any, instance: AccessToken, origin: Any = None, **kwargs: Any) -> None:
    if _is_origin(AccessToken, origin) and instance.revoked_at is None:
        kind = _kind(instance, AuditKind.TOKEN_REVOKED, AuditKind.SHARE_REVOKED)
        record(kind, person=instance.created_by, **_of_token(instance))


def _token_used(sender: Any, token: AccessToken, **kwargs: Any) -> None:
    """Record the creator of a token as the actor; a person who opens a share link is anonymous."""
    # Not `actor_of`, which would read the session, while answers to tokens depend on none.
    address = (address_of(context.request) if context.request is not None else None) or ""
    if token.scope == TokenScope.SHARE:
        by = Actor("", None, address)
    else:
        by = Actor(token.created_by.get_username(), token.created_by_id, address)
    kind = _kind(token, AuditKind.TOKEN_USED, AuditKind.SHARE_USED)
    record(kind, by=by, person=token.created_by, **_of_token(token))


def _invite_saved(sender: Any, instance: Invite, created: bool, raw: bool, **kwargs: Any) -> None:
    if created and not raw:
        record(AuditKind.INVITE_MADE, person=instance.created_by, project=instance.project, detail=str(instance.role))


def _invite_used(sender: Any, invite: Invite, user: User, **kwargs: Any) -> None:
    record(AuditKind.INVITE_USED, visitor=user, person=user, project=invite.project, detail=str(invite.role))


def _invite_revoked(sender: Any, invite: Invite, **kwargs: Any) -> None:
    record(AuditKind.INVITE_REVOKED, person=invite.created_by, project=invite.project, detail=str(invite.role))
