"""A small agent that runs scikit-learn models at the edge: features in over MQTT, labels out."""

__version__ = "1.1.0.dev0"
