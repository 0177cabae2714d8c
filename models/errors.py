"""What can go wrong with a model.

    ModelError
    |- ModelLoadError       a checkpoint that cannot be found, read or trusted to score
    |- LabelMappingError    labels that cannot be mapped onto negative, neutral and positive
    |- DeviceError          a device that is not here
    `- ScoringError         texts that could not be scored
       |- BusyError         more texts at once than may wait
       `- ClosedError       an engine that takes nothing more

Every message names what was seen and the way out.
"""


class ModelError(Exception):
    """Anything that `models` itself raises."""


class ModelLoadError(ModelError):
    """A checkpoint that cannot be used."""


class LabelMappingError(ModelError):
    """A checkpoint whose labels say too little."""


class DeviceError(ModelError):
    """A device that cannot be used."""


class ScoringError(ModelError):
    """Texts that could not be scored. The message never quotes them."""


class BusyError(ScoringError):
    """An engine that has no room for more texts now."""


class ClosedError(ScoringError):
    """An engine that has been closed."""
