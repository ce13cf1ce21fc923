"""The ASGI application: pages over HTTP, runs over WebSocket."""

import os

from channels.routing import ProtocolTypeRouter, URLRouter
from django.core.asgi import get_asgi_application

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "monitor_site.settings")
http_application = get_asgi_application()

from runs.live.origin import OriginGuard  # noqa: E402  needs the app registry
from runs.live.routing import websocket_urlpatterns  # noqa: E402

application = ProtocolTypeRouter(
    {
        "http": http_application,
        "websocket": OriginGuard(URLRouter(websocket_urlpatterns)),
    }
)
