"""What a step sees, the step, epochs, and the loop around them."""
