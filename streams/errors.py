"""What can go wrong outside of the data; bad input is not here, it is a value (records.Rejected).

    CallpulseError
    |- SettingsError     a flag, an environment variable or a file given by the user is wrong
    |- TopicsError       topics are missing or have another number of partitions
    |- BrokerError       the broker cannot be reached or, embedded, cannot be started
    |- DeliveryError     a record could not be delivered
    `- RecordingError    a recording cannot be read

Every message says what to do about it; the command line prints it and exits with 1 (2 for SettingsError).
"""


class CallpulseError(Exception):
    """Anything that callpulse itself raises."""


class SettingsError(CallpulseError):
    """A setting that cannot be used."""


class TopicsError(CallpulseError):
    """Topics that are missing, or that do not fit together."""


class BrokerError(CallpulseError):
    """No broker to talk to."""


class DeliveryError(CallpulseError):
    """The broker did not take a record."""


class RecordingError(CallpulseError):
    """A file that is no recording."""
