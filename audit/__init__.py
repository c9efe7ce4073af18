"""What people run and trust: the command line, settings, publishing."""
