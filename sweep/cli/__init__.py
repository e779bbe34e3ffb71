"""The command line: one file for each verb, nothing heavy imported before it is needed."""
