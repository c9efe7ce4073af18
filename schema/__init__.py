"""What both sides of the log agree on: events, readings, identifiers, tables."""
