"""Which rules could never hold where no texts are published: the judge has what lies on calls.sentiment, and no more. Pure."""

from streams.errors import RulesError
from streams.rules import RuleSet

OF_WORDS = ("wpm", "bot.repeats")
"""The measures that are read from what was said."""


def refuse_words(rules: RuleSet) -> None:
    """Raises RulesError, naming the rules that ask for words, phrases or patterns, or for a measure that needs some."""
    asking = [rule.ref.name for rule in rules.rules if any(c.listeners or _of_words(c.names) for c in rule.conditions)]
    if asking:
        raise RulesError(
            f"--no-text: {', '.join(asking)} would never hold, for no words are left to go by: take them out of the rules, or "
            "use --redact, which keeps all words but numbers"
        )


def _of_words(names: tuple[str, ...]) -> bool:
    return any(name == measure or name.startswith(f"{measure}.") for name in names for measure in OF_WORDS)
