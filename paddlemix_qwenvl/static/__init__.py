"""Static graphs: `export` writes a folder, `runner` serves it without a layer of the model."""
