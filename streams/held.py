"""The states of a partition's calls, as they are held in memory. Pure."""

from collections.abc import Iterator, MutableMapping

from msgspec.structs import replace

from streams.conversation import Conversation, Timing
from streams.redact import Mask, kept
from streams.wire import decode_state, decode_timing, encode

OPEN = 16_384
"""States kept as objects: the calls that are live in a busy partition, some 8 kB each. To meet one that lies encoded takes as
long as to judge it by fifty rules; where more are live than are kept, nearly each is."""


def _quiet(call: Conversation, mask: Mask) -> Conversation:
    """A state that may have been stored by a worker that masked less."""
    return replace(call, recent=tuple(replace(turn, text=mask(turn.text)) for turn in call.recent))


class States(MutableMapping[str, Conversation]):
    """The states of calls by id. The last that were touched are objects; the others stay encoded, as on calls.state: a third of
    the memory, a ninth of the time to load, and nothing for the garbage collector to walk through. What the calls have said
    goes through `mask`."""

    def __init__(self, mask: Mask = kept) -> None:
        self._mask = mask
        self._open: dict[str, Conversation] = {}
        self._encoded: dict[str, bytes] = {}

    def put(self, call_id: str, state: bytes) -> None:
        """Takes in an encoded state of a call that is not here yet."""
        self._encoded[call_id] = state

    def timing(self, call_id: str) -> Timing:
        """What says when the call is due, of a call that is here. Moves nothing."""
        return self._open.get(call_id) or decode_timing(self._encoded[call_id])

    def seen(self, call_id: str) -> Conversation:
        """The state of a call that is here. Moves nothing: for who looks at all of them once."""
        return self._open.get(call_id) or self._decoded(call_id)

    def _decoded(self, call_id: str) -> Conversation:
        return _quiet(decode_state(self._encoded[call_id]), self._mask)

    def __getitem__(self, call_id: str) -> Conversation:
        call = self._open.get(call_id)
        self[call_id] = call = call or self._decoded(call_id)
        return call

    def __setitem__(self, call_id: str, call: Conversation) -> None:
        self._open.pop(call_id, None)  # to the end: the first is the one not touched for longest
        self._encoded.pop(call_id, None)
        self._open[call_id] = call
        if len(self._open) > OPEN:
            idle = next(iter(self._open))
            self._encoded[idle] = encode(self._open.pop(idle))

    def __delitem__(self, call_id: str) -> None:
        del (self._open if call_id in self._open else self._encoded)[call_id]

    def __iter__(self) -> Iterator[str]:
        return iter([*self._open, *self._encoded])  # a copy: looking at a state moves it

    def __len__(self) -> int:
        return len(self._open) + len(self._encoded)
