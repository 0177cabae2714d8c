"""What can go wrong outside of the data; bad input is not here, it is a value (records.Rejected).

    CallpulseError
    |- SettingsError     a flag, an environment variable or a file given by the user is wrong
    |  `- RulesError     rules that cannot be used, each fault with file and line
    |- TopicsError       topics are missing or have another number of partitions
    |- BrokerError       the broker cannot be reached or, embedded, cannot be started
    |  `- AccessError    the broker denies a right to what the user wants to use
    |- DeliveryError     a record could not be delivered
    |  `- FencedError    because another worker has taken the partition over, or may have written it
    |- PassedOverError   records were not handed over that lie in a topic
    |- PoisonError       a record that the code cannot work on (bad data is no error: this is a bug; nor is a text that the
    |                    model fails on: that is rejected)
    `- RecordingError    a recording cannot be read

Every message says what to do about it; the command line prints it and exits with 1 (2 for SettingsError).
"""


class CallpulseError(Exception):
    """Anything that callpulse itself raises."""


class SettingsError(CallpulseError):
    """A setting that cannot be used."""


class RulesError(SettingsError):
    """Rules that cannot be used; a line a fault, FILE:LINE: what is wrong and the way out."""


class TopicsError(CallpulseError):
    """Topics that are missing, or that do not fit together."""


class BrokerError(CallpulseError):
    """No broker to talk to."""


class AccessError(BrokerError):
    """The broker denies a right."""


class DeliveryError(CallpulseError):
    """The broker did not take a record."""


class FencedError(DeliveryError):
    """Another worker has taken over what this one was about to write."""


class PassedOverError(CallpulseError):
    """Records that lie in a topic did not come, and later ones did."""


class PoisonError(CallpulseError):
    """A record at which our own code fails, with its place as --skip takes it: TOPIC:PARTITION:OFFSET."""

    def __init__(self, topic: str, partition: int, offset: int) -> None:
        super().__init__(f"{topic} partition {partition} offset {offset}")
        self.place = f"{topic}:{partition}:{offset}"
        self.topic, self.partition, self.offset = topic, partition, offset


class RecordingError(CallpulseError):
    """A file that is no recording."""
