"""Family ``torchserve``: archives and handlers made for TorchServe, without the package of that name."""
