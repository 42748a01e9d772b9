"""The public app for gunicorn; importing this starts the private port and the models' watches too."""

import atexit
import os

from service import create_app
from service.capacity import Capacity
from service.models import Models
from service.private_port import create_private_app, serve_private
from service.settings import Role, Settings

settings = Settings.from_environ(os.environ)
app = create_app(settings)
models: Models = app.extensions["sluice"]
for gateway in models.gateways:
    gateway.watch.start()
    if settings.role is not Role.FRONT:  # which has no slots
        capacity = Capacity(gateway.settings.model, settings.slots)
        capacity.start()
        atexit.register(capacity.end)
serve_private(create_private_app(models), settings.private_host, settings.private_port)
