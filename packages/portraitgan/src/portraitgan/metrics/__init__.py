"""How good a trained generator is: quality, identity, canonical pose, errors of learned poses."""
