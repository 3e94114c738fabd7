"""Shared curvature against own curvature, the centralised method, the fast pair and tuned gradient tracking."""
