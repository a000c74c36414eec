"""A small GPT trained on packed documents, and the same training on padded ones: see train_packed_gpt.py."""
