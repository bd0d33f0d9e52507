"""The checks of the living site, their runner, and the muted findings."""
