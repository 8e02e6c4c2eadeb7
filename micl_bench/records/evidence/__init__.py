"""What a number rests on, image by image."""
