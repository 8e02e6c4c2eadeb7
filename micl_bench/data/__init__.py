"""Images: folders, packed stores, transforms, and the data set that needs no download."""
