"""gRPC over the server's own HTTP/2: calls, the services, and what their messages look like."""
