"""How many entries the local tier should have: one small policy per file."""
