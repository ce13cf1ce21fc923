"""The ASGI application: pages over HTTP, runs over WebSocket."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.conf import settings
from django.core.asgi import get_asgi_application
from django.core.exceptions import ImproperlyConfigured

from steersman.files.data_folder import UnfitFolder, refuse_unfit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monitor_site.settings")
try:
    # Checked here too, because runserver or any other ASGI server may load this module.
    refuse_unfit(settings.STEERSMAN_DATA, shared=settings.STEERSMAN_SHARED_DATA)
except UnfitFolder as error:
    raise ImproperlyConfigured(str(error)) from error

http_application = get_asgi_application()

from monitor_site.environment.this_machine import only_from_this_machine  # noqa: E402
from monitor_site.prefix import under_prefix  # noqa: E402
from monitor_site.short_path import ShortPath  # noqa: E402  needs the app registry
from monitor_site.slow_refusals import refuse_slowly  # noqa: E402
from runs.live.origin import OriginGuard  # noqa: E402
from runs.live.routing import websocket_urlpatterns  # noqa: E402
from runs.metrics.probes import Probes  # noqa: E402
from runs.outage.patience import Patience, wait_briefly  # noqa: E402
from runs.recording.liveness import received_heartbeats  # noqa: E402

wait_briefly()
received_heartbeats.listen()

portal = under_prefix(
    ProtocolTypeRouter(
        {
            "http": Probes(
                Patience(
                    refuse_slowly(ShortPath(http_application, paths=[f"{settings.STEERSMAN_PREFIX}/api/tickets/"]))
                ),
                settings.STEERSMAN_PREFIX,
            ),
            "websocket": OriginGuard(URLRouter(websocket_urlpatterns)),
        }
    ),
    settings.STEERSMAN_PREFIX,
)
# Django's error pages show settings and source code. If another server runs this, its address is unknown, so only
# requests from this machine are answered while debugging.
application = only_from_this_machine(portal) if settings.DEBUG else portal
