"""The networks: mapping, backbone, super-resolution, pose predictors, generator, discriminator."""
