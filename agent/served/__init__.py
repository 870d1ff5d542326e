"""A served model, measured from outside: the server's dialect, its streams as they arrive, and what they must prove."""
