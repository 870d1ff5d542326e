"""GGUF files: a model written for llama.cpp's family of servers, and read again to prove what a server serves."""

WEIGHTS_KEY = "phasewatt.weights"  # in a file that phasewatt wrote: where its numbers came from ...
DTYPE_KEY = "phasewatt.dtype"  # ... and in which dtype they were drawn, before they were quantized
