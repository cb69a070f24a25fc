"""The continuous batching of OpenVINO GenAI behind the interface of an engine."""
