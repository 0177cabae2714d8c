"""The scores of texts that come again and again: calls repeat "okay" and "thank you" all day. Pure, and of one thread."""

from collections import OrderedDict

from models.sentiment import Sentiment

SIZE = 10_000
LONGEST = 200  # characters of a text that is kept: longer ones hardly repeat, and 10,000 of them would take 100 MB and more


class Cache:
    """The sentiments of the last `size` texts that were looked at, by the exact text; none with `size` 0. `hits` and `misses`
    count the looks."""

    def __init__(self, size: int = SIZE) -> None:
        self.size, self.hits, self.misses = size, 0, 0
        self._known: OrderedDict[str, Sentiment] = OrderedDict()

    def __len__(self) -> int:
        return len(self._known)

    def get(self, text: str) -> Sentiment | None:
        known = self._known.get(text)
        if known is None:
            self.misses += 1
            return None
        self.hits += 1
        self._known.move_to_end(text)
        return known

    def put(self, text: str, sentiment: Sentiment) -> None:
        if len(text) > LONGEST or not self.size:
            return
        self._known[text] = sentiment
        self._known.move_to_end(text)
        if len(self._known) > self.size:
            self._known.popitem(last=False)
