"""`python -m edge_agent` is `edge-agent`."""

from edge_agent.cli.main import main

main()
