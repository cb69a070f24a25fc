"""The Open Inference Protocol over gRPC: a second listener of the front end, off unless HEADRACE_GRPC_PORT is set."""
