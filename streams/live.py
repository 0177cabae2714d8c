"""What the demo shows: a board of calls and alerts, folded from what lies in the topics, and the terminal that it is drawn on.

The board and everything drawn from it are pure; only `View` writes. On a colour terminal the board is redrawn in place,
elsewhere there is one line an event.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from types import TracebackType

from msgspec.structs import replace
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.table import Table
from rich.text import Text

from streams.records import Alert, Label, Scored, Sentiment, Summary

BLOCKS = "▁▂▃▄▅▆▇█"
SPARKS = 24  # turns; a bundled call has at most 23
ALERTS = 6
QUOTES = 2  # a shown alert
ALERT_LINES = 1 + QUOTES
CHROME = 6  # lines that are neither calls nor alerts: status, blank, the heads of both tables and the panel's frame
LABELS: dict[Label, str] = {"negative": "red", "neutral": "bright_black", "positive": "green"}
SEVERITIES = {"critical": "bold red", "warning": "yellow", "info": "cyan"}
RESOLVED = "green"

Place = tuple[int, int]
"""Partition and offset in calls.segments."""


@dataclass(slots=True)
class Row:
    """One call: the customer's turns by their place, the last words, how far it has come, its summary once it is over."""

    call_id: str
    turns: dict[Place, Sentiment] = field(default_factory=dict)
    said: str = ""
    at_ms: int = 0
    summary: Summary | None = None


@dataclass(slots=True)
class Board:
    """All that is shown. `suffix` is what a replay put behind the ids of its calls; `episodes` are the last events of each
    alert, the most recent last, with the turns that the alert quoted last."""

    suffix: str = ""
    calls: dict[str, Row] = field(default_factory=dict)
    episodes: dict[str, Alert] = field(default_factory=dict)

    def add(self, record: Scored | Alert | Summary) -> bool:
        """Takes one record in; false for a repeat, which changes nothing."""
        row = self.calls.setdefault(record.call_id, Row(record.call_id))
        if isinstance(record, Scored):
            return _turn(row, record)
        if isinstance(record, Alert):
            return self._alert(record)
        new, row.summary, row.at_ms = row.summary is None, record, record.duration_ms
        return new

    def _alert(self, alert: Alert) -> bool:
        known = self.episodes.get(alert.alert_id)
        if known is not None and alert.sequence <= known.sequence:
            return False
        self.episodes.pop(alert.alert_id, None)
        quoted = known.evidence if known and alert.event == "resolve" else alert.evidence
        self.episodes[alert.alert_id] = replace(alert, evidence=quoted)
        return True

    def name(self, call_id: str) -> str:
        """The call's id as it was recorded."""
        return printable(call_id.removesuffix(self.suffix))

    def alerts_of(self, call_id: str) -> list[Alert]:
        return [alert for alert in self.episodes.values() if alert.call_id == call_id]

    def sorted_rows(self) -> list[Row]:
        return [self.calls[call_id] for call_id in sorted(self.calls)]


def _turn(row: Row, scored: Scored) -> bool:
    place = (scored.source.partition, scored.source.offset)
    row.at_ms = max(row.at_ms, scored.end_ms or 0)
    if scored.speaker != "customer" or scored.sentiment is None or place in row.turns:
        return False
    row.turns[place], row.said = scored.sentiment, printable(scored.text)
    return True


def printable(text: str) -> str:
    """One line without control characters, whatever was in it: a terminal would obey them."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def quoted(text: str) -> str:
    """In quotation marks; nothing where texts are not published."""
    return f"“{printable(text)}”" if text else ""


def spark(turns: Sequence[Sentiment]) -> Text:
    """A block a turn, the latest last: low is negative, the middle neutral; coloured by label."""
    drawn = Text(no_wrap=True)
    for turn in turns[-SPARKS:]:
        drawn.append(BLOCKS[round((turn.score + 1) / 2 * (len(BLOCKS) - 1))], LABELS[turn.label])
    return drawn


def clock(ms: int) -> str:
    return f"{ms // 60_000}:{ms // 1000 % 60:02}"


def screen(board: Board, status: str, height: int) -> RenderableType:
    """The whole picture, in at most `height` lines (a few more where that would leave no room for one alert)."""
    room = (height - CHROME - len(board.calls)) // ALERT_LINES
    shown = list(reversed(board.episodes.values()))[: max(1, min(ALERTS, room))]
    alerts = Group(*(line for alert in shown for line in _alert_lines(board, alert)))
    panel = Panel(alerts if shown else Text("none yet", "dim"), title="alerts", title_align="left", box=box.ROUNDED)
    return Group(Text(status, "bold", no_wrap=True, overflow="ellipsis"), Text(), calls_table(board), panel)


def calls_table(board: Board) -> Table:
    table = Table(box=None, expand=True, pad_edge=False, header_style="dim")
    table.add_column("call", no_wrap=True)
    table.add_column("at", justify="right", no_wrap=True)
    table.add_column("the customer's turns", width=SPARKS, no_wrap=True)
    table.add_column("alerts", width=10, no_wrap=True)
    table.add_column("last words of the customer", ratio=1, no_wrap=True, overflow="ellipsis")
    for row in board.sorted_rows():
        last = Text(f"over: {outcome(row.summary)}", "dim") if row.summary else Text(row.said)
        state = _state(board.alerts_of(row.call_id))
        table.add_row(Text(board.name(row.call_id)), clock(row.at_ms), spark(list(row.turns.values())), state, last)
    return table


def _state(alerts: Sequence[Alert]) -> Text:
    """The gravest open alert, or that there were some."""
    for severity, style in SEVERITIES.items():
        if any(alert.severity == severity and alert.status != "resolved" for alert in alerts):
            return Text(f"● {severity}", style)
    return Text("○ resolved", RESOLVED) if alerts else Text()


def _alert_lines(board: Board, alert: Alert) -> Iterator[Text]:
    resolved = alert.status == "resolved"
    head = Text(no_wrap=True, overflow="ellipsis")
    style = RESOLVED if resolved else SEVERITIES[alert.severity]
    head.append(f"{clock(alert.at_ms):>4} {alert.event:<8} {alert.severity:<8}", style)
    head.append(f" {board.name(alert.call_id)}  {printable(alert.reason)}")
    yield head.append(f" {alert.rule.name}" if resolved else "", "dim")  # the reasons of the others say what it is
    for turn in alert.evidence[-QUOTES:]:
        quote = Text(no_wrap=True, overflow="ellipsis", style="dim" if resolved else "")
        quote.append(f"{'':4} {turn.score:+.2f} ", LABELS[turn.label])
        yield quote.append(quoted(turn.text))


def line(board: Board, record: Alert | Summary) -> str:
    """The same event as one line of plain text."""
    name = f"{board.name(record.call_id):<15}"
    if isinstance(record, Summary):
        head, score = f"{clock(record.duration_ms):>5} {name} call over:", customer_score(record)
        heard = "not scored" if score is None else f"{score:+.1f} on a scale of -5 to 5{went(record)}"
        return f"{head} {outcome(record)}; customer {heard}; alerts: {len(record.alerts)}"
    head, said = f"{clock(record.at_ms):>5} {name} {record.event} {record.severity}", printable(record.reason)
    quote = f" {quoted(record.evidence[-1].text)}" if record.evidence and record.event != "resolve" else ""
    return f"{head} {record.rule.name}: {said}{quote}".rstrip()


def outcome(summary: Summary) -> str:
    """The end event's word for it, or that it was a silence."""
    return printable(summary.reason or summary.ended_by)


def customer_score(summary: Summary) -> float | None:
    """From -5 to 5; None where no turn was scored."""
    customer = summary.speakers.get("customer")
    return customer.score if customer else None


def went(summary: Summary) -> str:
    """Where the customer's mood went in the end, if anywhere."""
    customer = summary.speakers.get("customer")
    direction = customer.direction if customer else None
    return f" and {direction}" if direction and direction != "steady" else ""


class View:
    """Where the board is shown while the context is open: redrawn in place, or a line an event."""

    def __init__(self, console: Console, board: Board, in_place: bool) -> None:
        self.console, self.board, self.status = console, board, ""
        self.live = Live(console=console, auto_refresh=False) if in_place else None
        self._open = ExitStack()

    def __enter__(self) -> "View":
        if self.live is not None:
            self._open.enter_context(self.live)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._open.close()

    def say(self, status: str) -> None:
        """What goes on now."""
        self.status = status
        if self.live is None:
            self.print(status)
        self.draw()

    def saw(self, record: Scored | Alert | Summary) -> None:
        """Puts a record on the board."""
        if self.board.add(record) and self.live is None and not isinstance(record, Scored):
            self.print(line(self.board, record))

    def draw(self, more: str = "") -> None:
        """Redraws the board, with `more` behind the status."""
        if self.live is not None:
            self.live.update(screen(self.board, f"{self.status}  {more}", self.console.height), refresh=True)

    def print(self, text: str) -> None:
        """A line as it stands, neither wrapped nor read as markup."""
        self.console.print(text, markup=False, highlight=False, soft_wrap=True)
