"""What --redact finds, what it masks for nothing, and what it costs: `python -m tests.bench.redact`.

Recall is over the made-up utterances of tests/utterances.py; alarms are the turns of `models/data` (none of them tells a real
person's number) that it changes: printed with --show, for whether one is false is for a person to say.
"""

import json
import sys
import time
from pathlib import Path

from streams.redact import redact
from tests.utterances import KEPT, MASKED

DATA = Path(__file__).parents[2] / "models" / "data"
ROUNDS = 5


def main() -> None:
    masked, left = (
        sum(redact(text) == want for text, want in pairs) for pairs in (MASKED.items(), zip(KEPT, KEPT, strict=True))
    )
    print(f"masked as it should be: {masked} of {len(MASKED)}; left as it should be: {left} of {len(KEPT)}")
    for name in ("turns_en_dev", "turns_ko_dev"):
        lines = (DATA / f"{name}.jsonl").read_text(encoding="utf-8").splitlines()
        turns = [json.loads(line)["text"] for line in lines]
        changed = [(turn, masked) for turn in turns if (masked := redact(turn)) != turn]
        began = time.perf_counter()
        for _ in range(ROUNDS):
            for turn in turns:
                redact(turn)
        cost = (time.perf_counter() - began) / ROUNDS / len(turns) * 1e6
        print(f"{name}: {len(changed)} of {len(turns)} turns changed, {cost:.0f} us a turn")
        for turn, masked in changed if "--show" in sys.argv else ():
            print(f"    {turn} -> {masked}")


if __name__ == "__main__":
    main()
