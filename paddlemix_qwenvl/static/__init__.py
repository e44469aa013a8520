"""Static graphs: `export` writes a folder, `predictor` serves it without PaddleNLP or the modelling code."""
