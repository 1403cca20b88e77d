"""CenterNet, the one-stage family: networks, DCNv2, preprocessing, heads, decoding, targets, loss."""
