"""What is known: about this system, this process and its past runs."""
