"""How fast the judge is with 50 rules on 10,000 live calls, and how big its states: python -m tests.bench.rules.

The rules are the library's, each in variants with thresholds and phrases of their own. Customer and agent speak in turn, with
texts of the bundled calls; all calls are live at once. With more of them than held.OPEN, nearly every segment meets a state
that lies encoded. Seconds are of the processor.
"""

import argparse
import gc
import json
import random
import re
import resource
import time

from msgspec.structs import replace

from streams import rules
from streams.conversation import Limits
from streams.outcome import Outcome
from streams.pipeline import Calls
from streams.records import Scored, Sentiment
from streams.rules import LIBRARY, RuleSet
from streams.wire import encode
from tests.bench.load import TEXTS, scored


def ruleset(count: int) -> RuleSet:
    """So many rules: the library's over and over, each time with other numbers and a word of its own."""
    texts = [path.read_text() for path in sorted(LIBRARY.glob("*.yaml"))]
    made: list[rules.Rule] = []
    for n in range(count):
        text, again = texts[n % len(texts)], n // len(texts)
        text = re.sub(r"name: (\w+)", rf"name: \1_{again}", text)
        text = re.sub(r"(lte: -0\.\d)", rf"\g<1>{again}", text)
        text = re.sub(r"silence: (\d)5s", rf"silence: \g<1>{5 + again % 5}s", text)
        text = text.replace("refund,", f"refund, word{again},").replace("- my lawyer", f"- my lawyer\n        - word{again}")
        found, faults = rules.read(text, "bench")
        assert not faults, faults
        made += found
    return rules.rule_set(made)


def mood(made: Scored, call: int, moody: float, rng: random.Random) -> Sentiment | None:
    """Around neutral; in this share of the calls around -0.6."""
    if made.sentiment is None:
        return None
    score = round(max(-1.0, min(1.0, rng.gauss(-0.6 if call % 100 < 100 * moody else 0.05, 0.3))), 5)
    return Sentiment("negative" if score < -0.4 else "positive" if score > 0.4 else "neutral", score, 0.0, 1.0, 0.0)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--rules", type=int, default=50)
    parser.add_argument("--moody", type=float, default=0.1, help="share of the calls whose customer is unhappy")
    parser.add_argument("--turns", type=int, default=12, help="segments a call")
    options = parser.parse_args()
    rng = random.Random(1)
    calls, outcome = Calls(Limits(), 1, rules=ruleset(options.rules)), Outcome()
    offset, seconds = 0, 0.0
    rates = []
    for turn in range(options.turns):
        batch = []
        for call in range(options.calls):
            made = scored(call, turn, rng.choice(TEXTS), rng)
            source = replace(made.source, offset=offset)
            batch.append(replace(made, call_id=f"call-{call}", source=source, sentiment=mood(made, call, options.moody, rng)))
            offset += 1
        gc.collect()
        began = time.process_time()
        for one in batch:
            calls.judge(one, outcome)
        took = time.process_time() - began
        seconds += took
        rates.append(round(options.calls / took))
        outcome.changed.clear()
    sizes = sorted(len(encode(calls.calls[f"call-{n}"])) for n in range(0, options.calls, 10))
    print(
        json.dumps(
            {
                "rules": options.rules,
                "calls": options.calls,
                "segments": offset,
                "segments_per_s": round(offset / seconds),
                "by_turn": rates,
                "alerts": len(outcome.alerts),
                "state_bytes_median": sizes[len(sizes) // 2],
                "state_bytes_most": sizes[-1],
                "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
            }
        )
    )


if __name__ == "__main__":
    main()
