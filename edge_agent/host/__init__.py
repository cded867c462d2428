"""The machine: its files, processes, service manager and journal."""
