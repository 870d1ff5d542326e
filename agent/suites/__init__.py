"""The suites that come with the agent, as TOML files beside this one."""
