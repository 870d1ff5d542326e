"""One file a schema revision, never changed once released."""
