"""Programs of a Jetson, copied into the folder of a simulated one: they import nothing that must be installed."""
