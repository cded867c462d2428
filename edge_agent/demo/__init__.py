"""What `edge-agent demo` shows: an embedded broker, the real agent beside it, and simulated sensors."""
