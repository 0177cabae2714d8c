"""The commands that the operations guide tells people to type exist, with their options."""

import re
import shlex
from pathlib import Path

import click
import pytest

from streams.cli import cli

GUIDE = (Path(__file__).parents[1] / "docker" / "README.md").read_text(encoding="utf-8")
COMMANDS = sorted(set(re.findall(r"(?:^ {4,}|`|&& )callpulse ([a-z][^`&#\n]*)", GUIDE, flags=re.MULTILINE)))


def test_there_are_commands() -> None:
    assert len(COMMANDS) > 10


@pytest.mark.parametrize("line", COMMANDS)
def test_the_command_exists(line: str) -> None:
    words, command = shlex.split(line), cli
    while isinstance(command, click.Group):
        command = command.commands[words.pop(0)]  # type: ignore[assignment]
    options = {flag for option in command.params for flag in (*option.opts, *option.secondary_opts)}
    assert {word for word in words if word.startswith("--")} <= options
