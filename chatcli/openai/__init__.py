"""The OpenAI API's JSON and server-sent events, to and from chatcli's values; it opens no socket."""
