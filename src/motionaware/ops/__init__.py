"""Functions on tensors: no parameters, no state, no random draws."""
