"""Conformance suites for the ports, and doubles and objectives to test with."""
