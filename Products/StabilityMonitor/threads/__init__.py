"""What threads do: frames, activity, locks and deadlocks, a snapshot of all."""
