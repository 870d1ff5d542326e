"""phasewatt: what each phase of LLM inference costs, with a verdict on every joule.

The library that the agent and the collector stand on. It does no I/O.
"""

__version__ = "0.1.0"
