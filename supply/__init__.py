"""What Servable is made of, and what is known against it: a bill of materials, and an audit of the locks."""
