"""What the Makefile calls: set-up, demo, tests and benchmarks of the control node."""
