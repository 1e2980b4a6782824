"""Inner loops: one folder per op, with one signature and several implementations."""
