"""One file per downstream task: data set + protocol in, result records out."""
