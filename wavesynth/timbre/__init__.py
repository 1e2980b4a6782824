"""Points between sounds."""
