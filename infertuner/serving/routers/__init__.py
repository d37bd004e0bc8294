"""Where a request goes: one small policy a file."""
