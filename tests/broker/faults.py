"""What is done to workers under load: each fault so many times, when the seed says."""

from contextlib import nullcontext
from pathlib import Path

from .messages import now_ms
from .stage import Stage

FAKETIME = ("lib/*/faketime/libfaketime.so.1", "lib*/faketime/libfaketime.so.1", "local/lib/faketime/libfaketime.so.1")
HOUR_S = 3600


def killed(stage: Stage, times: int) -> None:
    """SIGKILL amid the load; the next one when every partition goes on."""
    for _ in range(times):
        stage.progress()
        stage.pause(0, 1)
        member = stage.one()
        stage.kills.append(now_ms())
        stage.fleet.kill(member)
        stage.injected += 1


def killed_at_once(stage: Stage, times: int) -> None:
    """SIGKILL of whoever is there, whether the group has come to rest or not."""
    for _ in range(times):
        stage.pause(1, 6)
        stage.fleet.kill(stage.random.choice(stage.fleet.members))
        stage.injected += 1


def updated(stage: Stage, times: int) -> None:
    """SIGTERM and a new start."""
    for _ in range(times):
        stage.progress()
        stage.fleet.restart(stage.one())
        stage.injected += 1


def came_and_went(stage: Stage, times: int) -> None:
    """One joins, then one of all leaves: both count."""
    for _ in range(0, times, 2):
        stage.progress()
        stage.fleet.add()
        stage.ready()
        stage.progress()
        stage.fleet.dismiss(stage.one())
        stage.injected += 2


def begun(stage: Stage, times: int) -> None:
    """The group's first moments, when nothing is committed: so many workers more, one after the other."""
    for _ in range(times):
        stage.pause(1, 4)
        stage.fleet.add()
        stage.injected += 1
    stage.ready()
    stage.progress()


def froze(stage: Stage, times: int) -> None:
    """Frozen for longer than a session, until the others have taken over; then it wakes as if nothing had happened."""
    session_s = stage.settings.profile.session_timeout
    for _ in range(times):
        stage.progress()
        with stage.fleet.frozen(stage.one()):
            stage.pause(session_s + 1, session_s + 3)
            stage.progress()
        stage.injected += 1
        stage.pause(1, 3)


def slowed(stage: Stage, times: int) -> None:
    """One worker is stopped most of the time, never for as long as a session."""
    member = stage.one()
    for _ in range(times):
        with stage.fleet.frozen(member):
            stage.pause(0.5, 2.5)
        stage.pause(0.05, 0.3)
        stage.injected += 1


def odd_messages(stage: Stage, times: int) -> None:
    """Nothing but what producers do: so many messages that are poisoned, repeated, mis-keyed or out of order."""
    counts = stage.sender.traffic.counts
    kinds = ("poisoned", "repeated", "mis-keyed", "out of order")
    stage.until(lambda: sum(counts[kind] for kind in kinds) >= times, f"{times} odd messages", 60)
    stage.progress()
    stage.injected = sum(counts[kind] for kind in kinds)


def stepped(stage: Stage, times: int) -> None:
    """The workers' wall clock jumps by an hour, forth and back, every second time when all is judged and nothing comes, so
    that only the clock says what is due. At last it is an hour behind."""
    for n in reversed(range(times)):
        stage.progress()
        with stage.sender.silent() if n // 2 % 2 == 0 else nullcontext():
            stage.pause(1, 2)
            set_clock(stage, HOUR_S if n % 2 else -HOUR_S)
            stage.pause(3, 5)
        stage.injected += 1
    stage.progress()


def set_clock(stage: Stage, seconds: int) -> None:
    """In one step, for a reader that may look at any time."""
    path = Path(stage.fleet.also["FAKETIME_TIMESTAMP_FILE"])
    path.with_suffix(".new").write_text(f"{seconds:+d}\n")
    path.with_suffix(".new").replace(path)


def faketime(folder: Path) -> dict[str, str]:
    """The environment of workers whose clock can be set; empty where libfaketime is not installed."""
    found = [str(library) for pattern in FAKETIME for library in Path("/usr").glob(pattern)]
    (folder / "clock").write_text("+0\n")
    ours = {"FAKETIME_TIMESTAMP_FILE": str(folder / "clock"), "FAKETIME_NO_CACHE": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1"}
    return {"LD_PRELOAD": found[0], "DONT_FAKE_MONOTONIC": "1", **ours} if found else {}


def mixed(stage: Stage, times: int) -> None:
    """In an order that the seed draws: `times` kills, two of three while the group rebalances, and one each of the others."""
    steps = [killed, killed_at_once, killed_at_once] * (times // 3) + [updated, froze, came_and_went]
    stage.random.shuffle(steps)
    for step in steps:
        step(stage, 2 if step is came_and_went else 1)


def killed_alone(stage: Stage, times: int) -> None:
    """`times` kills of the only worker, and one planned stop in an order that the seed draws."""
    steps = [killed] * times + [updated]
    stage.random.shuffle(steps)
    for step in steps:
        step(stage, 1)
