"""What is handed over: one report object, rendered as text or JSON."""
