"""Fine-tuning: base models made ready, LoRA adapters trained on chat records, every run recorded in MLflow.

    params              settings of a run
    models              base models, adapters, special tokens, the encoding of prompts and answers
    tiny                a random small Llama with its own tokenizer, for tests
    encoding            prompts and answers as token ids, many at once
    completion_trainer  TRL's trainer, weighted loss on the answer alone, checked token by token
    records             corpus rows as training reads them, and what is refused: unaudited corpora among it
    lengths             token counts of a corpus
    finetune            the training entry and its settings
    loss_log            the losses of a run, step by step
    adapter_files       the folder that a run leaves behind
    tracking            MLflow

Belongs here: whatever changes weights. Does not belong here: the records' text (`corpora`), what a model is worth
(`evaluation`). Importing this package loads neither torch nor MLflow; its modules do when used.
"""
