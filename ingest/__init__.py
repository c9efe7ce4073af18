"""The way in: HTTP requests become events of the log."""
