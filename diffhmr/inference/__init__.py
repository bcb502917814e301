"""From photos to distributions of bodies in the camera of the full image."""
