"""Photos and portraits as bytes and as pixels: formats, color, codecs."""
