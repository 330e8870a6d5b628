"""The HTTP API, as OpenAI's clients speak it, on Starlette and uvicorn; it knows engines only as `Served`."""
