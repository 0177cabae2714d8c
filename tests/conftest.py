"""Hypothesis runs without deadlines: a slow machine is no bug. What a test needs to build is in builders.py."""

import signal

from hypothesis import HealthCheck, settings

settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")

# What a script starts in its background ignores Ctrl-C, and so would every process that a test starts, and interrupts.
signal.signal(signal.SIGINT, signal.default_int_handler)
