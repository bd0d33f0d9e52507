"""Reports, their texts and charts: one report document, rendered as text or JSON."""
