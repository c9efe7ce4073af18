"""The way out: events of the log become rows of the read model."""
