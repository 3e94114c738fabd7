"""How fast and how far: methods, networks, blocks, curvature."""
