"""What `serve` shows to browsers and to Prometheus: figures to read, made without a look at the database."""
