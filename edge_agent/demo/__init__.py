"""The demo, `edge-agent demo`: an embedded broker, the real agent, and simulated sensors."""
