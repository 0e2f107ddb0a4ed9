"""Sends what befalls the services of this host to people, through apprise."""
