"""Conversations with Qwen-VL-Chat."""


class Chat:
    pass
