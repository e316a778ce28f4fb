"""Files of models: where they lie, checksums, licenses, safe reading. Knows no network that uses them."""
