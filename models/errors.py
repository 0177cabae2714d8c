"""What can go wrong with a model.

    ModelError
    |- ModelLoadError       a checkpoint that cannot be found, read or trusted to score
    |- LabelMappingError    labels that cannot be mapped onto negative, neutral and positive
    `- DeviceError          a device that is not here

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
