"""The replay buffer: the file, its lock, a torn end, and the state that its lines add up to."""
