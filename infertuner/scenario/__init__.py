"""The scenario language: YAML in, typed and checked parts out. After this room no string chooses anything."""
