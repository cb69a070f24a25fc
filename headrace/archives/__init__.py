"""Model archives of TorchServe on the command line."""
