"""Skipped, with the reason, where helm or the schemas are missing; never in CI."""

import os

import pytest

from chart.helm import missing


@pytest.fixture(autouse=True)
def _tools() -> None:
    if why := missing():
        (pytest.fail if "CI" in os.environ else pytest.skip)(why)
