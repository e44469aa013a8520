"""From prompts to new tokens: the loop that answers any number of requests, settings, draws, grammars, streaming."""
