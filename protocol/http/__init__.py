"""Problems over HTTP: an OpenAI-compatible server and A2A, in front of any `Service`."""
