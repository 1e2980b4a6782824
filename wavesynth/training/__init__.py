"""The loop, the objectives it runs, and what it writes."""
