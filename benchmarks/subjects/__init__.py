"""What the agent is measured against: programs as one writes them from the tutorials, each a process of its own."""
