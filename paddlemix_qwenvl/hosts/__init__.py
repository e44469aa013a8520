"""What PaddleNLP, PaddleMIX and PaddleFormers expect of the models: nothing else imports this."""
