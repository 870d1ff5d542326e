"""The agent's commands, one file each: `add_arguments(parser)` and `run(args) -> int`."""
