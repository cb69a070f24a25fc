"""TorchServe's model archives: unpacking them safely, and what their manifests say."""
