"""From a prompt to new tokens: settings, the decode loop, stopping, streaming."""
