"""callpulse: streaming sentiment of contact-centre calls. The way of the data is in pipeline and worker."""

__version__ = "0.1.0"
