"""What is remembered: eviction, tiers and sizing of KV caches. Knows no SimPy, no files and no clock."""
