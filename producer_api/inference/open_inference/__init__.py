"""The Open Inference Protocol, version 2: what REST and gRPC have in common, and the codec of REST."""
