"""Who asks: arrival processes, token lengths, sessions, traces and the published sources."""
