"""Which entry leaves a full tier: one policy per file, each owning its queues."""
