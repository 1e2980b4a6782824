"""The inner loops: one folder per op, one signature, several implementations."""
