"""From the posed body's space to the canonical one: skinning, closest faces, the field."""
