"""What the threads of a process do: frames, activity, locks, deadlocks, and a snapshot of all."""
