"""The worker of an image with the embedded broker beside it, for a container without a network. Run in the image by tini."""

import os
import sys

from streams.broker import embedded

WORKER = ("-m", "streams", "worker", "--create-topics", "--broker", "embedded")

with embedded() as address:
    # replaced, not started: the broker dies with this process, and signals and exit code are the worker's own
    os.execv(sys.executable, [sys.executable, *WORKER, "--bootstrap-servers", address])
