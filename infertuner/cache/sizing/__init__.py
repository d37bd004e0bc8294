"""How large a tier should be: one small policy or controller per file."""
