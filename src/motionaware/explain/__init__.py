"""Explain a model: activations, Grad-CAM, attention statistics, and pictures of them."""
