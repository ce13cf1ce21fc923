"""Settings: environment variables, with defaults for a laptop. All state is in STEERSMAN_DATA."""

from __future__ import annotations

import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

from csp.constants import NONE, SELF
from django.core.exceptions import ImproperlyConfigured
from django.templatetags.static import static
from django.urls import reverse_lazy
from django.utils.translation import gettext_lazy as _

from monitor_site.addresses import hosts_for
from monitor_site.environment.bucket import bucket, checkpoint_storage
from monitor_site.environment.dangers import named_hosts, strong_key
from monitor_site.environment.directory import directory
from monitor_site.environment.files import Environment, with_password
from monitor_site.environment.sign_in import allauth_settings, passkey_login, second_factor, single_sign_on
from monitor_site.environment.values import mebibytes, networks, package_folder, secret_key, slots
from monitor_site.logs import logging_settings
from monitor_site.prefix import prefix_of
from monitor_site.redis_socket import is_embedded, socket_path, socket_url
from steersman.files import data_folder
from steersman.files.journal_bound import DEFAULT_MIB, JOURNAL_MIB_VARIABLE, SMALLEST_MIB

BASE_DIR = Path(__file__).resolve().parent.parent
env = Environment()


def admin_page(app: str, model: str, title: Any, icon: str) -> dict[str, Any]:
    """Return the entry of a list page in the admin's sidebar, for those who may see it."""
    return {
        "title": title,
        "icon": icon,
        "link": reverse_lazy(f"admin:{app}_{model}_changelist"),
        "permission": lambda request: request.user.has_perm(f"{app}.view_{model}"),
    }


STEERSMAN_DATA = Path(env("STEERSMAN_DATA", default=str(BASE_DIR / ".steersman"))).resolve()
# Whether other users of the host, for example a group, may enter it. The files in it are still only their owner's.
STEERSMAN_SHARED_DATA = env.bool("STEERSMAN_SHARED_DATA", default=False)
data_folder.prepare(STEERSMAN_DATA, BASE_DIR / ".steersman", shared=STEERSMAN_SHARED_DATA)
STEERSMAN_PORT = env.int("STEERSMAN_PORT", default=8765)
# The address to listen on; 0.0.0.0 lets other machines connect, through the names and addresses of this one.
STEERSMAN_BIND = env("STEERSMAN_BIND", default="127.0.0.1")
STEERSMAN_PUSH_MS = env.int("STEERSMAN_PUSH_MS", default=80)
STEERSMAN_RECIPES = env.list("STEERSMAN_RECIPES", default=[])
# The silence after which a live training is stalled and the first pause before a restart, both in seconds, and the
# warning that a batch system sends before it ends a job.
STEERSMAN_STALLED_S = env.float("STEERSMAN_STALLED_S", default=60.0)
STEERSMAN_RESTART_PAUSE_S = env.float("STEERSMAN_RESTART_PAUSE_S", default=5.0)
STEERSMAN_SLOTS = slots(env, "STEERSMAN_SLOTS")
STEERSMAN_CPU_SLOTS = slots(env, "STEERSMAN_CPU_SLOTS")
# The share of a GPU's memory that other programs may use while it still counts as free.
STEERSMAN_GPU_SHARE = env.float("STEERSMAN_GPU_SHARE", default=0.1)
if not 0 <= STEERSMAN_GPU_SHARE <= 1:
    raise ImproperlyConfigured("STEERSMAN_GPU_SHARE must be between 0 and 1: 0.1 means a tenth of a GPU's memory")
# The size of a run's console, in MiB: as text in the database, and as files of its attempts on the training host.
STEERSMAN_CONSOLE_MIB = mebibytes(env, "STEERSMAN_CONSOLE_MIB", default=16, smallest=1)
STEERSMAN_CONSOLE_FILES_MIB = mebibytes(env, "STEERSMAN_CONSOLE_FILES_MIB", default=256, smallest=16)
# The size of a training process's journal while the database is unavailable, in MiB.
STEERSMAN_PUSH_MIB = mebibytes(env, "STEERSMAN_PUSH_MIB", default=51200, smallest=1)
STEERSMAN_JOURNAL_MIB = mebibytes(env, JOURNAL_MIB_VARIABLE, default=DEFAULT_MIB, smallest=SMALLEST_MIB)
STEERSMAN_STOP_SIGNAL = env("STEERSMAN_STOP_SIGNAL", default="")
# Messages on sockets, if the browser offers it; each is compressed once for all viewers.
STEERSMAN_COMPRESS = env.bool("STEERSMAN_COMPRESS", default=True)
# Further origins that may open a socket, as scheme://host:port; the portal's own is always allowed.
STEERSMAN_ORIGINS = env.list("STEERSMAN_ORIGINS", default=[])
# The address for people, such as https://steersman.example.org; without it, messages have no links.
STEERSMAN_PUBLIC_URL = env("STEERSMAN_PUBLIC_URL", default="").strip().rstrip("/")
# The folder of the packages that /client/simple/ serves to pip; `make client` fills it.
STEERSMAN_CLIENT_PACKAGES = Path(
    env("STEERSMAN_CLIENT_PACKAGES", default=str(BASE_DIR / "build" / "client" / "packages"))
).resolve()
# Internal networks, such as 10.1.0.0/16, to which messages about alerts may be sent; by default none.
STEERSMAN_ALERT_NETWORKS = networks(env, "STEERSMAN_ALERT_NETWORKS")
# The networks of Prometheus, such as 127.0.0.1,10.1.0.0/16: it needs no token and sees every project.
STEERSMAN_METRICS_FROM = networks(env, "STEERSMAN_METRICS_FROM")
# Older entries of the audit are deleted; 0 keeps all.
STEERSMAN_AUDIT_DAYS = env.int("STEERSMAN_AUDIT_DAYS", default=730)
if STEERSMAN_AUDIT_DAYS < 0:
    raise ImproperlyConfigured("STEERSMAN_AUDIT_DAYS must be at least 0 days: 0 keeps all entries")
# Open sockets across all web processes. A link may be shown to a lecture hall; a person has tabs and scripts.
STEERSMAN_SOCKETS_PER_USER = env.int("STEERSMAN_SOCKETS_PER_USER", default=100)
STEERSMAN_SOCKETS_PER_LINK = env.int("STEERSMAN_SOCKETS_PER_LINK", default=1000)
STEERSMAN_SOCKETS_IN_ALL = env.int("STEERSMAN_SOCKETS_IN_ALL", default=5000)
if min(STEERSMAN_SOCKETS_PER_USER, STEERSMAN_SOCKETS_PER_LINK, STEERSMAN_SOCKETS_IN_ALL) < 1:
    raise ImproperlyConfigured("STEERSMAN_SOCKETS_PER_USER, …_PER_LINK and …_IN_ALL must be at least 1")
# Connections of training hosts outside, in each process that records them.
STEERSMAN_HOSTS_PER_USER = env.int("STEERSMAN_HOSTS_PER_USER", default=200)
if STEERSMAN_HOSTS_PER_USER < 1:
    raise ImproperlyConfigured("STEERSMAN_HOSTS_PER_USER must be at least 1")
if STEERSMAN_PUBLIC_URL and not STEERSMAN_PUBLIC_URL.startswith(("http://", "https://")):
    raise ImproperlyConfigured("STEERSMAN_PUBLIC_URL must begin with https:// or http://")
if not 10 <= STEERSMAN_PUSH_MS <= 5000:
    raise ImproperlyConfigured("STEERSMAN_PUSH_MS must be between 10 and 5000 milliseconds")
if not STEERSMAN_STALLED_S > 0 or not STEERSMAN_RESTART_PAUSE_S >= 0:
    raise ImproperlyConfigured(
        "STEERSMAN_STALLED_S must be above 0 seconds, and STEERSMAN_RESTART_PAUSE_S must be at least 0 seconds"
    )

DEBUG = env.bool("STEERSMAN_DEBUG", default=False)
CHOSEN_KEY = env("STEERSMAN_SECRET_KEY", default="")
SECRET_KEY = strong_key(CHOSEN_KEY) if CHOSEN_KEY else secret_key(STEERSMAN_DATA)
ALLOWED_HOSTS = named_hosts(env.list("STEERSMAN_HOSTS", default=hosts_for(STEERSMAN_BIND)))
CSRF_TRUSTED_ORIGINS = STEERSMAN_ORIGINS
# The path under which a proxy serves the portal, such as /steersman.
try:
    STEERSMAN_PREFIX = prefix_of(env("STEERSMAN_PREFIX", default=""))
except ValueError as error:
    raise ImproperlyConfigured(f"STEERSMAN_PREFIX: {error}") from None
FORCE_SCRIPT_NAME = STEERSMAN_PREFIX or None
# Behind a TLS proxy: secure cookies, HSTS, redirect to https. The proxy's X-Forwarded-Proto and -For are trusted.
BEHIND_TLS = env.bool("STEERSMAN_TLS", default=False)

INSTALLED_APPS = [
    "unfold",
    "django.contrib.admin.apps.SimpleAdminConfig",
    "django.contrib.auth",
    "django.contrib.contenttypes",
    "django.contrib.sessions",
    "django.contrib.messages",
    "whitenoise.runserver_nostatic",
    "django.contrib.staticfiles",
    "channels",
    "csp",
    "axes",
    "allauth",
    "allauth.account",
    "allauth.usersessions",
    "allauth.mfa",
    "allauth.socialaccount",
    "allauth.socialaccount.providers.openid_connect",
    "runs",
    "trainer",
    "monitor_site.serving",
]
# Of several apps with a command of the same name, the first wins: this app's `runserver` supports WebSockets.
if len(sys.argv) > 1 and sys.argv[1] == "runserver":
    INSTALLED_APPS.insert(0, INSTALLED_APPS.pop(INSTALLED_APPS.index("monitor_site.serving")))

MIDDLEWARE = [
    "django.middleware.security.SecurityMiddleware",
    "monitor_site.static.StaticFilesMiddleware",
    "monitor_site.middleware.response_headers.ContentPolicy",
    "monitor_site.middleware.response_headers.mark_pages",
    "monitor_site.middleware.reader_zone.in_readers_zone",
    "runs.outage.last_known.keeps_answers",
    "runs.outage.patience.AnswerWithoutDatabase",
    "django.contrib.sessions.middleware.SessionMiddleware",
    "django.middleware.locale.LocaleMiddleware",
    "runs.portal.query_text.RefuseNul",
    "django.middleware.common.CommonMiddleware",
    "django.middleware.csrf.CsrfViewMiddleware",
    "django.contrib.auth.middleware.AuthenticationMiddleware",
    "django.contrib.messages.middleware.MessageMiddleware",
    "django.middleware.clickjacking.XFrameOptionsMiddleware",
    "axes.middleware.AxesMiddleware",
    "allauth.account.middleware.AccountMiddleware",
    "runs.sign_in.sessions.notes_sessions",
    "runs.sign_in.known_devices.remembers_devices",
]

ROOT_URLCONF = "monitor_site.urls"
ASGI_APPLICATION = "monitor_site.asgi.application"

TEMPLATES = [
    {
        "BACKEND": "django.template.backends.django.DjangoTemplates",
        "DIRS": [BASE_DIR / "templates"],
        "APP_DIRS": True,
        "OPTIONS": {
            "context_processors": [
                "django.template.context_processors.request",
                "django.contrib.auth.context_processors.auth",
                "django.contrib.messages.context_processors.messages",
                "monitor_site.web_app.build",
                "runs.portal.texts.texts_address",
            ],
        },
    },
]

# WAL lets the portal read while a supervisor writes; IMMEDIATE takes the write lock at BEGIN, where waiting is
# possible, instead of failing in the middle of a transaction with "database is locked". The default is not a URL, in
# which the name of a folder could not contain # ? or %.
DATABASES: dict[str, Any] = {
    "default": env.db_url("STEERSMAN_DATABASE_URL")
    if env.str("STEERSMAN_DATABASE_URL", default="")
    else {"ENGINE": "django.db.backends.sqlite3", "NAME": str(STEERSMAN_DATA / "steersman.sqlite3")}
}
if DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3":
    # The same engine, with files that only their owner can access.
    DATABASES["default"]["ENGINE"] = "monitor_site.sqlite"
    # The cache, in KiB per connection, holds the pages of a chart of 100 million points; the default of 2 MiB does not.
    DATABASES["default"]["OPTIONS"] = {
        "transaction_mode": "IMMEDIATE",
        "timeout": 5,
        "init_command": "PRAGMA journal_mode=WAL; PRAGMA synchronous=NORMAL; PRAGMA cache_size=-8000;",
    }
    # A file, so that threads of a test share the database as in the portal: in memory they would lock each other's
    # tables.
    DATABASES["default"]["TEST"] = {"NAME": STEERSMAN_DATA / "test.sqlite3"}
elif DATABASES["default"]["ENGINE"] == "django.db.backends.postgresql":
    # Under ASGI a thread never returns its connection (Django's documentation): a pool keeps them, and checks whether
    # they are still alive. An unavailable database is an error within seconds, not a page that hangs.
    DATABASES["default"] |= {"ENGINE": "monitor_site.postgresql", "CONN_MAX_AGE": 0, "CONN_HEALTH_CHECKS": True}
    if password := env("STEERSMAN_DATABASE_PASSWORD", default=""):
        DATABASES["default"]["PASSWORD"] = password
    DATABASES["default"].setdefault("OPTIONS", {}).update(
        # A few for the readers of sockets, one for pages, the rest for downloads.
        pool={"min_size": 0, "max_size": 10, "timeout": 5},
        connect_timeout=5,
        # A network that loses all packets, or a server that moved to another address, is noticed within seconds too.
        tcp_user_timeout=5000,
        keepalives_idle=5,
        keepalives_interval=2,
        keepalives_count=3,
        # As on SQLite: a process that waits for another writer gets an error, and can do work that needs no database.
        options="-c lock_timeout=5s",
    )
else:
    raise ImproperlyConfigured("STEERSMAN_DATABASE_URL must begin with sqlite:/// or postgres://")

try:
    STEERSMAN_REDIS_URL = with_password(
        env("STEERSMAN_REDIS_URL", default="") or socket_url(socket_path(STEERSMAN_DATA)),
        env("STEERSMAN_REDIS_PASSWORD", default=""),
    )
except ValueError as error:
    raise ImproperlyConfigured(f"STEERSMAN_REDIS_URL: {error}") from None
CHANNEL_LAYERS = {
    "default": {
        # The embedded server is used only if it belongs to this user; a server that a person names may belong to
        # anybody.
        "BACKEND": "monitor_site.redis_connection.OwnSocketLayer"
        if is_embedded(STEERSMAN_REDIS_URL, STEERSMAN_DATA)
        else "channels_redis.pubsub.RedisPubSubChannelLayer",
        "CONFIG": {
            "hosts": [
                {
                    "address": STEERSMAN_REDIS_URL,
                    "socket_connect_timeout": 2,
                    "socket_timeout": 5,
                    "health_check_interval": 10,
                }
            ],
            "prefix": env("STEERSMAN_LAYER_PREFIX", default="steersman"),
        },
    }
}

# For example smtp+tls://user:password@mail.example.org:587; without it messages are printed, not sent.
vars().update(env.email("STEERSMAN_EMAIL_URL", default="consolemail://"))
EMAIL_TIMEOUT = 10
DEFAULT_FROM_EMAIL = SERVER_EMAIL = env("STEERSMAN_MAIL_FROM", default="steersman@localhost")

AUTH_PASSWORD_VALIDATORS = [
    {"NAME": f"django.contrib.auth.password_validation.{name}"}
    for name in (
        "UserAttributeSimilarityValidator",
        "MinimumLengthValidator",
        "CommonPasswordValidator",
        "NumericPasswordValidator",
    )
]
# Wrong passwords lock the account and the address, at the login and in the admin.
AUTHENTICATION_BACKENDS = ["axes.backends.AxesStandaloneBackend", "runs.access.logins.PasswordBackend"]
AXES_HANDLER = "runs.sign_in.known_devices.DeviceLimits"
# Each within the cool-off of the previous one; an address may have five times as many (`runs.access.logins`). A browser
# that is known to the account is counted separately (`runs.sign_in.known_devices`).
AXES_FAILURE_LIMIT = 10
AXES_LOCKOUT_PARAMETERS = ["username", "ip_address"]
AXES_COOLOFF_TIME = timedelta(minutes=10)
AXES_CLIENT_IP_CALLABLE = "runs.access.addresses.address_of"
AXES_LOCKOUT_CALLABLE = "runs.portal.pages.locked_out"
# Guesses during a lock neither prolong it nor write rows.
AXES_RESET_COOL_OFF_ON_FAILURE_DURING_LOCKOUT = False
AXES_VERBOSE = False
# In addition to django-axes' own, because it stores the other fields of forms with passwords and codes with an attempt.
AXES_SENSITIVE_PARAMETERS = [
    *("username", "ip_address", "old_password", "new_password1", "new_password2"),
    *("code", "token", "csrfmiddlewaretoken"),
]
# They have their own pages there, `runs.admin.accounts`.
AXES_ENABLE_ADMIN = False
# Off: a password is enough for everybody. Otherwise it is enough for those without a second factor.
STEERSMAN_SECOND_FACTOR = second_factor(env("STEERSMAN_SECOND_FACTOR", default="off"))
STEERSMAN_PASSKEY_LOGIN = passkey_login(env.bool("STEERSMAN_PASSKEY_LOGIN", default=False), STEERSMAN_SECOND_FACTOR)
STEERSMAN_OIDC = single_sign_on(env)
STEERSMAN_LDAP = directory(env)
if STEERSMAN_LDAP:
    AUTHENTICATION_BACKENDS.append("runs.sign_in.directory.DirectoryBackend")
vars().update(allauth_settings(STEERSMAN_SECOND_FACTOR, STEERSMAN_PASSKEY_LOGIN, STEERSMAN_OIDC))
LOGIN_URL = "login"
LOGIN_REDIRECT_URL = "runs"
LOGOUT_REDIRECT_URL = "login"

LANGUAGE_CODE = "en"
# Each in its own language, whatever language is active.
LANGUAGES = [("en", "English"), ("zh-hans", "简体中文")]
# The choice is a cookie, so that it also works for share links, without a login.
LANGUAGE_COOKIE_NAME = "steersman_language"
LANGUAGE_COOKIE_AGE = 31_536_000
LANGUAGE_COOKIE_SAMESITE = "Lax"
LANGUAGE_COOKIE_HTTPONLY = True
LOCALE_PATHS = [BASE_DIR / "locale"]
USE_I18N = True
USE_TZ = True
TIME_ZONE = "UTC"

STATIC_URL = "static/"
STATIC_ROOT = BASE_DIR / "staticfiles"
STATICFILES_DIRS: list[Any] = [BASE_DIR / "static", ("ninja", package_folder("ninja") / "static" / "ninja")]
# The bucket of the pushed checkpoints; without it, they are in the data folder.
STEERSMAN_S3 = bucket(env)
STORAGES = {
    "default": {"BACKEND": "django.core.files.storage.FileSystemStorage"},
    "staticfiles": {"BACKEND": "monitor_site.static.StaticStorage"},
    "checkpoints": checkpoint_storage(STEERSMAN_S3),
}
# If `collectstatic` has not run (plain `runserver`, tests), files are served from their source folders.
WHITENOISE_USE_FINDERS = True

X_FRAME_OPTIONS = "DENY"
SECURE_REFERRER_POLICY = "same-origin"
SESSION_COOKIE_SAMESITE = "Lax"
SESSION_COOKIE_HTTPONLY = True
SESSION_COOKIE_NAME = "steersman_session"
CSRF_COOKIE_NAME = "steersman_csrf"
# Other portals on this host have cookies with the same names.
SESSION_COOKIE_PATH = CSRF_COOKIE_PATH = LANGUAGE_COOKIE_PATH = f"{STEERSMAN_PREFIX}/"
CSRF_FAILURE_VIEW = "runs.portal.pages.csrf_failure"
if BEHIND_TLS:
    SESSION_COOKIE_SECURE = True
    CSRF_COOKIE_SECURE = True
    LANGUAGE_COOKIE_SECURE = True
    SECURE_SSL_REDIRECT = True
    # Prometheus requests each portal directly, behind the proxy.
    SECURE_REDIRECT_EXEMPT = [r"^metrics$"]
    SECURE_HSTS_SECONDS = 31_536_000
    SECURE_HSTS_INCLUDE_SUBDOMAINS = True
    SECURE_HSTS_PRELOAD = True
    SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")

# Tabler's icons are data: images. `monitor_site.middleware.response_headers` has the additions for the admin.
CONTENT_SECURITY_POLICY = {
    "DIRECTIVES": {
        "default-src": [NONE],
        "script-src": [SELF],
        "style-src": [SELF],
        "img-src": [SELF, "data:", "blob:"],
        "font-src": [SELF],
        "connect-src": [SELF],
        "manifest-src": [SELF],
        "form-action": [SELF],
        "frame-ancestors": [NONE],
        "base-uri": [NONE],
    },
}

ADMIN_PAGES = (
    ("run", _("Runs"), "monitoring"),
    ("alert", _("Alerts"), "warning"),
    ("alertdestination", _("Alert destinations"), "outgoing_mail"),
    ("alertdelivery", _("Deliveries"), "mark_email_read"),
    ("project", _("Projects"), "folder"),
    ("recipe", _("Recipes"), "science"),
    ("host", _("Hosts"), "dns"),
)
ACCESS_PAGES = (
    ("membership", _("Memberships"), "badge"),
    ("accesstoken", _("Tokens"), "key"),
    ("invite", _("Invites"), "mail"),
    ("auditentry", _("Audit"), "policy"),
)
ACCOUNT_PAGES = (("user", _("Users"), "person"), ("group", _("Groups"), "group"))
LOGIN_PAGES = (("accesslog", _("Logins"), "login"), ("accessattempt", _("Wrong passwords"), "lock"))
UNFOLD: dict[str, Any] = {
    "SITE_TITLE": _("Steersman"),
    "SITE_HEADER": _("Steersman"),
    "SITE_SUBHEADER": _("Record of trainings"),
    "SITE_URL": f"{STEERSMAN_PREFIX}/",
    "SITE_SYMBOL": "sailing",
    "SHOW_VIEW_ON_SITE": True,
    "SHOW_LANGUAGES": True,
    "SITE_FAVICONS": [{"rel": "icon", "type": "image/svg+xml", "href": lambda request: static("img/logo.svg")}],
    "STYLES": [lambda request: static("css/admin.css")],
    "COLORS": {
        "primary": {
            "50": "oklch(97% .014 254.6)",
            "100": "oklch(93.2% .032 255.6)",
            "200": "oklch(88.2% .059 254.1)",
            "300": "oklch(80.9% .105 251.8)",
            "400": "oklch(70.7% .165 254.6)",
            "500": "oklch(62.3% .214 259.8)",
            "600": "oklch(54.6% .245 262.9)",
            "700": "oklch(48.8% .243 264.4)",
            "800": "oklch(42.4% .199 265.6)",
            "900": "oklch(37.9% .146 265.5)",
            "950": "oklch(28.2% .091 267.9)",
        }
    },
    "SIDEBAR": {
        "navigation": [
            {"title": _("Trainings"), "items": [admin_page("runs", *page) for page in ADMIN_PAGES]},
            {"title": _("Access"), "items": [admin_page("runs", *page) for page in ACCESS_PAGES]},
            {
                "title": _("Accounts"),
                "items": [admin_page("auth", *page) for page in ACCOUNT_PAGES]
                + [admin_page("axes", *page) for page in LOGIN_PAGES],
            },
        ]
    },
}

LOGGING = logging_settings(env("STEERSMAN_LOG_LEVEL", default="WARNING"))
