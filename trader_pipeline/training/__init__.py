"""Fine-tuning: base models made ready, LoRA adapters trained on chat records, every run recorded in MLflow.

    models              base models, adapters, special tokens, the encoding of prompts and answers
    tiny                a random small Llama with its own tokenizer, for tests
    completion_trainer  TRL's trainer, loss on the answer alone, checked token by token
    records             corpus rows as training reads them, and what is refused
    finetune            the training entry and its settings
    tracking            MLflow

Belongs here: whatever changes weights. Does not belong here: the records' text (`corpora`), what a model is worth
(`evaluation`). Importing this package loads neither torch nor MLflow; its modules do when used.
"""
