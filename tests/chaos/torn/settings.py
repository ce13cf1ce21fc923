"""The portal's settings with a channel layer that loses, doubles and delays announcements: see `layer`."""

from monitor_site.settings import *  # noqa: F403
from monitor_site.settings import CHANNEL_LAYERS as WHOLE

CHANNEL_LAYERS = {"default": WHOLE["default"] | {"BACKEND": "tests.chaos.torn.layer.TornLayer"}}
