"""Commands of the collector, one file each."""
