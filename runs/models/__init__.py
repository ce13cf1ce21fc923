"""The rows: projects, runs, attempts, series, events, alerts, commands, tokens.

Imports `runs.protocol` and `steersman.slots`.

State changes are functions of `runs.recording.lifecycle`; only `runs.recording.feed` writes events.
"""

from runs.models.alert_deliveries import (
    AlertDelivery,
    AlertDestination,
    DeliveryMoment,
    DeliveryState,
    DestinationKind,
    MailAccount,
    MailSecurity,
    UsedAlertLink,
)
from runs.models.alert_rules import AlertRule, RuleAction, Severity
from runs.models.alerts import OF_CODE, ActionState, Alert, AlertState, HeldBack, alert_as_wire
from runs.models.audit import AuditEntry, AuditKind
from runs.models.branches import ORIGIN_ATTEMPT, Branch, BranchChange
from runs.models.commands import COMMAND_LINE, Command, CommandState, as_wire
from runs.models.keys import AccessToken, TokenScope, UsedTicket
from runs.models.launches import (
    LONGEST_AGENT_NAME,
    LONGEST_FOLDER,
    LONGEST_KEY,
    LONGEST_NOTE,
    LONGEST_START,
    Agent,
    AgentRun,
    RemoteLaunch,
)
from runs.models.projects import GoalDirection, Invite, Membership, Project, Role
from runs.models.recorded import Axis, Chunk, ChunkPlaces, EpochMetric, JournalOffset, Series, StoredEvent
from runs.models.reports import PortalReport
from runs.models.runs import (
    LARGEST_ID,
    LONGEST_NAME,
    OPTIONAL,
    UNNAMED,
    AfterCondition,
    Attempt,
    Checkpoint,
    Host,
    Recipe,
    Run,
    RunQuerySet,
    RunState,
)
from runs.models.saved_views import LONGEST_VIEW_NAME, LONGEST_VIEW_QUERY, SavedView
from runs.models.sockets import SocketCounts
from runs.models.tags import LONGEST_TAG, RunTag

__all__ = [
    "COMMAND_LINE",
    "LARGEST_ID",
    "LONGEST_AGENT_NAME",
    "LONGEST_FOLDER",
    "LONGEST_KEY",
    "LONGEST_NAME",
    "LONGEST_NOTE",
    "LONGEST_START",
    "LONGEST_TAG",
    "LONGEST_VIEW_NAME",
    "LONGEST_VIEW_QUERY",
    "OF_CODE",
    "UNNAMED",
    "OPTIONAL",
    "ORIGIN_ATTEMPT",
    "AccessToken",
    "ActionState",
    "Agent",
    "AgentRun",
    "AfterCondition",
    "Alert",
    "AlertDelivery",
    "AlertDestination",
    "AlertRule",
    "AlertState",
    "Attempt",
    "AuditEntry",
    "AuditKind",
    "Axis",
    "Branch",
    "BranchChange",
    "Checkpoint",
    "Chunk",
    "ChunkPlaces",
    "Command",
    "CommandState",
    "DeliveryMoment",
    "DeliveryState",
    "DestinationKind",
    "EpochMetric",
    "GoalDirection",
    "HeldBack",
    "Host",
    "Invite",
    "JournalOffset",
    "MailAccount",
    "MailSecurity",
    "Membership",
    "PortalReport",
    "Project",
    "Recipe",
    "Role",
    "RuleAction",
    "Run",
    "RunQuerySet",
    "RunState",
    "RunTag",
    "SavedView",
    "Series",
    "Severity",
    "SocketCounts",
    "StoredEvent",
    "RemoteLaunch",
    "TokenScope",
    "UsedAlertLink",
    "UsedTicket",
    "alert_as_wire",
    "as_wire",
]
