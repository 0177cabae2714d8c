"""Hypothesis runs without deadlines: a slow machine is no bug. What a test needs to build is in builders.py."""

from hypothesis import HealthCheck, settings

settings.register_profile("steady", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("steady")
