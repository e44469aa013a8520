"""The model families, each a folder of configuration, vision, language, modeling and processing."""
