"""The machine: files, processes, service manager and log."""
