"""The HTTP face: an ASGI application, its routes, its pages, and the one table from errors to statuses."""
