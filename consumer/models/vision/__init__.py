"""Image classifiers: the families ``timm`` and ``torchvision``, and what they share."""
