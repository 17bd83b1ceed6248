"""Fine-tune a pretrained transformer and report its energy and CO2e beside its accuracy."""

__version__ = "0.1.0"
