"""The chat application: a core that knows no user interface, and a thin Chainlit adapter."""
