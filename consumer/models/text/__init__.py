"""Family ``text``: encoders that embed, classify or rank texts. Only here are transformers and tokenizers known."""
