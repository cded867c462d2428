"""What others may rely on: the messages on the wire, the names of topics, the model card."""
