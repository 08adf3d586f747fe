//! The shape of `config.yaml`, word for word.
