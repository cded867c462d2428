"""The interfaces that others rely on: messages on the wire, topic names, the model card."""
