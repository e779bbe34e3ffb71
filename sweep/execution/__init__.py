"""Where attempts run: clean trial processes on Ray workers, on this host alone, or in virtual time."""
