"""What the demo says at the end: the table of calls, what a kill did, an honest word, what to try next. Pure."""

from rich.table import Table
from rich.text import Text

from streams.live import SEVERITIES, Board, customer_score, outcome
from streams.records import Summary
from streams.tally import Report


def end_table(board: Board) -> Table:
    """A line an alert, in 80 columns; the time is when it opened, in seconds of the call."""
    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="dim")
    for name in ("call", "outcome", "customer\n-5 to 5", "alerts"):
        table.add_column(name, no_wrap=True)
    table.add_column("time to\nalert", justify="right", no_wrap=True)
    for row in board.sorted_rows():
        if row.summary is not None:
            table.add_row(Text(board.name(row.call_id)), *_ending(row.summary))
    return table


def _ending(summary: Summary) -> tuple[Text, ...]:
    raised = Text("\n").join(Text(f"{a.rule}, {a.severity}", SEVERITIES[a.severity]) for a in summary.alerts)
    times = Text("\n").join(Text(f"{a.at_ms / 1000:.0f} s") for a in summary.alerts)
    score = customer_score(summary)
    mood = Text("none" if score is None else f"{score:+.1f}", justify="right")
    return Text(outcome(summary)), mood, raised if summary.alerts else Text("none", "dim"), times


def figures(report: Report) -> str:
    """How much, how long, how fast."""
    said = [f"{report.segments} segments of {report.calls} calls in {report.seconds:.1f} s"]
    if report.first_alert_s is not None:
        said.append(f"the first alert came {report.first_alert_s:.1f} s after the first segment")
    if report.p50_ms is not None:
        said.append(f"from sent to scored {report.p50_ms} ms (p50), {report.p99_ms} ms (p99)")
    return "; ".join(said) + "."


def after_kill(report: Report, back_s: float) -> str:
    """What the kill lost and doubled, in words. `back_s`: seconds until the worker was ready again."""
    return (
        f"The worker was killed (SIGKILL) midway and was back after {back_s:.1f} s. Of {report.segments} segments "
        f"{report.lost} were lost; of the alerts {report.alerts_missing} are missing and {report.alerts_extra} too many. "
        f"What was under way was done again: {report.scored_twice} turns lie on the topic scored twice (known by their place "
        f"and judged once), {report.alerts_twice} alerts are repeated (known by their ce_id)."
    )


def word_on_irony(board: Board, name: str) -> str:
    """What the sarcastic call came to, said honestly; empty when it is not over."""
    summary = next((r.summary for r in board.calls.values() if r.summary and board.name(r.call_id) == name), None)
    if summary is None or (score := customer_score(summary)) is None:
        return ""
    heard = "took the irony for praise" if score > 0 else "was not altogether taken in"
    count = len(summary.alerts)
    raised = f"raised {count} alert{'s' * (count > 1)}, by luck" if count else "raised no alert, where a person would have"
    return f"{name}: the model hears words, not irony. It {heard} ({score:+.1f} on a scale of -5 to 5) and {raised}."


def next_steps(program: str) -> str:
    """Three commands; `program` is what to type to start callpulse."""
    return f"""Try next:
  {program} score "this is ridiculous" "thank you so much" "환불이 아직도 안 들어왔어요"
  {program} worker --create-topics --bootstrap-servers HOST:9092
      on a Kafka of your own; `{program} alerts --follow` beside it prints what it finds
  {program} replay call.txt --bootstrap-servers HOST:9092
      into that worker: a call of yours, in lines "Agent: ..." and "Customer: ..."
"""
