"""The OpenAI-compatible server, and its page. FastAPI and uvicorn (extra `serve`) are imported here alone."""
