"""What a model looks at: activations, Grad-CAM, pictures."""
