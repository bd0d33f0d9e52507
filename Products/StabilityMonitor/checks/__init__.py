"""Questions asked of the living site, their runner, and what is muted."""
