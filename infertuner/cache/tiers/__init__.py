"""Where KV is kept: tiers in bytes or entries, how entries move between them, and what moving costs."""
