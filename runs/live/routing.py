from django.urls import path, re_path

from runs.live.consumers import NoSuchRun, RunConsumer

websocket_urlpatterns = [
    path("ws/runs/<int:run_id>/", RunConsumer.as_asgi()),
    re_path(r"", NoSuchRun.as_asgi()),
]
