"""A plain Django project without WebSockets: what the roles must deploy by variables alone."""
